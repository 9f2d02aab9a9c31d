"""Randomness that one seed decides: independent streams by name, so that one more draw here changes nothing there.

A stream is BLAKE2b in counter mode (RFC 7693, keyed): the same words on every machine, and a hundred thousand streams
take little memory, where a standard generator has 2.5 KB of state.
"""

import base64
import hashlib
import struct
from typing import Final, TypeVar

T = TypeVar("T")

_WORDS: Final = struct.Struct(">8Q")
"""One block of output."""
WORD_BYTES: Final = 8


class Rng:
    """One stream of randomness."""

    __slots__ = ("_blocks", "_key", "_words")

    def __init__(self, seed: int, name: str = "") -> None:
        self._key = hashlib.sha256(f"{seed}/{name}".encode()).digest()
        self._blocks = 0
        self._words: list[int] = []

    def child(self, name: str) -> "Rng":
        """A stream of its own, the same for the same seed and name whatever was drawn here before."""
        return Rng(int.from_bytes(self._key[:8], "big"), name)

    def bits(self, count: int) -> int:
        """An integer of `count` random bits, 64 at most."""
        return (self._words or self._more()).pop() >> (64 - count)

    def below(self, bound: int) -> int:
        """An integer from 0 to `bound` - 1 (`bound` at most 2**48)."""
        return ((self._words or self._more()).pop() * bound) >> 64

    def between(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def chance(self, share: float) -> bool:
        """True in `share` (0..1) of all calls."""
        return self.bits(53) < share * (1 << 53)

    def shuffle(self, items: list[T]) -> None:
        """Put the list into random order, in place (Fisher-Yates)."""
        for last in range(len(items) - 1, 0, -1):
            other = self.below(last + 1)
            items[last], items[other] = items[other], items[last]

    def bytes(self, count: int) -> bytes:
        """`count` random bytes."""
        words = [(self._words or self._more()).pop() for _ in range(-(-count // WORD_BYTES))]
        return b"".join(word.to_bytes(WORD_BYTES, "big") for word in words)[:count]

    def _more(self) -> list[int]:
        """The words of the next block."""
        block = hashlib.blake2b(self._blocks.to_bytes(WORD_BYTES, "big"), key=self._key).digest()
        self._blocks += 1
        self._words = list(_WORDS.unpack(block))
        return self._words


class SeededIds:
    """The `wire.ports.Ids` of a simulated run."""

    def __init__(self, rng: Rng) -> None:
        self._rng = rng

    def new(self) -> str:
        """32 hex digits."""
        return self._rng.bytes(16).hex()

    def secret(self) -> str:
        """32 bytes, base64url."""
        return base64.urlsafe_b64encode(self._rng.bytes(32)).rstrip(b"=").decode()
