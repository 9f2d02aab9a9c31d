"""Randomness that one seed decides: independent streams by name, so that one more draw here changes nothing there.

Only `getrandbits` of the standard generator is used: its output is the same in every CPython, that of `shuffle` or
`gauss` is not promised to be.
"""

import base64
import hashlib
import random
from typing import TypeVar

T = TypeVar("T")


class Rng:
    """One stream of randomness."""

    def __init__(self, seed: int, name: str = "") -> None:
        self._origin = f"{seed}/{name}"
        digest = hashlib.sha256(self._origin.encode()).digest()
        self.bits = random.Random(int.from_bytes(digest, "big")).getrandbits
        """An integer of so many random bits; what draws for every message goes without the other methods."""

    def child(self, name: str) -> "Rng":
        """A stream of its own, the same for the same seed and name whatever was drawn here before."""
        digest = hashlib.sha256(self._origin.encode()).digest()
        return Rng(int.from_bytes(digest[:8], "big"), name)

    def below(self, bound: int) -> int:
        """An integer from 0 to `bound` - 1 (`bound` at most 2**48)."""
        return (self.bits(64) * bound) >> 64

    def between(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def chance(self, share: float) -> bool:
        """True in `share` (0..1) of all calls."""
        return self.bits(53) < share * (1 << 53)

    def shuffle(self, items: list[T]) -> None:
        """Put the list into random order, in place (Fisher-Yates)."""
        bits = self.bits
        for last in range(len(items) - 1, 0, -1):
            other = (bits(64) * (last + 1)) >> 64
            items[last], items[other] = items[other], items[last]

    def bytes(self, count: int) -> bytes:
        """`count` random bytes."""
        return self.bits(8 * count).to_bytes(count, "big")


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
