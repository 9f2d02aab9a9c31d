"""Chunk format: a 12-byte header (magic, index, count; little-endian) and up to CHUNK_BYTES of the object.

60 KiB with the header fits the payload limit of every public broker.
"""

import hashlib
import struct
from collections.abc import Iterator
from typing import Final

from wire.errors import MalformedError

MAGIC: Final = b"FLC1"
HEADER: Final = struct.Struct("<4sII")
CHUNK_BYTES: Final = 60 * 1024 - HEADER.size


def count(length: int) -> int:
    """Number of chunks of an object of `length` bytes."""
    return max(1, -(-length // CHUNK_BYTES))


def digests(data: bytes) -> tuple[str, ...]:
    """SHA-256 (hex) of each chunk's data, in order."""
    return tuple(hashlib.sha256(part).hexdigest() for part in _parts(data))


def frames(data: bytes) -> Iterator[bytes]:
    """The object as chunk payloads, in order."""
    for index in range(count(len(data))):
        yield frame(data, index)


def frame(data: bytes, index: int) -> bytes:
    """Payload of chunk `index` of `data`."""
    return wrap(data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES], index, count(len(data)))


def wrap(part: bytes, index: int, total: int) -> bytes:
    """Payload of a chunk whose data are `part`, the `index`th of `total`."""
    return HEADER.pack(MAGIC, index, total) + part


def unframe(payload: bytes) -> tuple[int, int, memoryview]:
    """(index, count, data) of a chunk payload; the data are a view of it, not a copy.

    Raises:
        MalformedError: too short, too long, wrong magic, or an index outside its own count.
    """
    if not HEADER.size < len(payload) <= HEADER.size + CHUNK_BYTES:
        raise MalformedError(f"a chunk has 1 to {CHUNK_BYTES} bytes after its header; this payload has {len(payload)}")
    magic, index, total = HEADER.unpack_from(payload)
    if magic != MAGIC or index >= total:
        raise MalformedError("not a chunk: wrong magic or index beyond its count")
    return index, total, memoryview(payload)[HEADER.size :]


def _parts(data: bytes) -> Iterator[bytes]:
    for index in range(count(len(data))):
        yield data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
