"""A set of chunk numbers as bits, bit `i % 8` of byte `i // 8`: how a device remembers what it holds of an object."""

from collections.abc import Iterable


def pack(indices: Iterable[int], count: int) -> bytes:
    """The bitmap of `indices`, all below `count`."""
    bits = bytearray(-(-count // 8))
    for index in indices:
        bits[index // 8] |= 1 << index % 8
    return bytes(bits)


def unpack(bits: bytes, count: int) -> frozenset[int]:
    """The numbers in a bitmap of `count` bits; empty when it is one of another size."""
    if len(bits) != -(-count // 8):
        return frozenset()
    return frozenset(index for index in range(count) if bits[index // 8] >> index % 8 & 1)
