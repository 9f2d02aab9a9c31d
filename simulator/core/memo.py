"""Pure functions of bytes, computed once for the whole fleet: devices do the same work on the same contents.

What is remembered is looked at: every so often (each SAMPLE_EVERY-th time, unless said otherwise) the function runs all
the same, and has to come to the same. The values are shared, so they must not be changed by those who get them.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

SAMPLE_EVERY: Final = 64
MOST: Final = 4_096


class UnequalError(AssertionError):
    """A function that was taken for pure is not."""


class Memo(Generic[K, V]):
    """Values by key, those that were not used for longest giving way to new ones.

    `like` says what of a value has to be the same every time.
    """

    def __init__(
        self, most: int = MOST, like: Callable[[V], object] = lambda value: value, sample_every: int = SAMPLE_EVERY
    ) -> None:
        self._sample_every = sample_every
        self._most = most
        self._like = like
        self._values: OrderedDict[K, V] = OrderedDict()  # a dict looks for its oldest entry past all that are gone
        self._hits = 0

    def put(self, key: K, value: V) -> None:
        """The value is known from elsewhere."""
        if len(self._values) >= self._most:
            self._values.popitem(last=False)
        self._values[key] = value

    def get(self, key: K, compute: Callable[[], V]) -> V:
        """The value of `key`. Raises UnequalError."""
        if key not in self._values:
            self.put(key, compute())
            return self._values[key]
        value = self._values[key]
        self._values.move_to_end(key)
        self._hits += 1
        if not self._hits % self._sample_every and self._like(compute()) != self._like(value):
            raise UnequalError(f"not a pure function: {compute} for {str(key)[:200]}")
        return value


_CONTENTS: Final[OrderedDict[tuple[object, ...], bytes]] = OrderedDict()
_DIGESTS: Final[Memo[bytes, str]] = Memo(1_024)
MOST_CONTENTS: Final = 1_024
SHARED_FROM_BYTES: Final = 512
"""Smaller contents are not worth the look."""
LOOKED_AT_BYTES: Final = 32
PIECE_BYTES: Final = 512
MOST_PIECES: Final = 16
"""What is longer is no record, and shared as a whole."""


def shared(data: bytes) -> bytes:
    """The same bytes, of which a whole fleet keeps one copy as long as it is used now and then.

    What is kept is a copy: an encoder leaves up to a third of room behind what it has written.
    """
    if len(data) < SHARED_FROM_BYTES:
        return data
    mark = _mark(data)
    known = _CONTENTS.get(mark)
    if known == data:
        _CONTENTS.move_to_end(mark)
        return known
    if known is None and len(_CONTENTS) >= MOST_CONTENTS:
        _CONTENTS.popitem(last=False)
    kept = _CONTENTS[mark] = bytes(memoryview(data))
    return kept


def in_pieces(data: bytes) -> bytes | tuple[bytes, ...]:
    """A record in pieces: those that are the same on many devices are kept once. Other data is left whole."""
    if not 2 * PIECE_BYTES <= len(data) <= MOST_PIECES * PIECE_BYTES:
        return data
    last = len(data) - PIECE_BYTES - len(data) % PIECE_BYTES  # with what is left, which would be too little to share
    starts = range(0, last, PIECE_BYTES)
    return (*(shared(data[start : start + PIECE_BYTES]) for start in starts), shared(data[last:]))


def _mark(data: bytes) -> tuple[object, ...]:
    """By which contents are told apart in most cases: to compare two is quicker than to hash one."""
    length, middle = len(data), len(data) // 2
    return length, data[:LOOKED_AT_BYTES], data[middle : middle + LOOKED_AT_BYTES], data[-LOOKED_AT_BYTES:]


def sha256(data: bytes) -> str:
    """SHA-256 (hex)."""
    return _DIGESTS.get(data, lambda: hashlib.sha256(data).hexdigest())
