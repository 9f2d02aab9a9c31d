"""A bandwidth cap kept by asking late: who asks for no more than the bucket holds receives no more. Times in ns."""

import math

from wire.ports import SECOND
from wire.transfer.chunks import CHUNK_BYTES


class Bucket:
    """Tokens are bytes; they fill at `rate` bytes per second, up to one second's worth, at least to one chunk."""

    __slots__ = ("_filled_ns", "_tokens")

    def __init__(self, now_ns: int) -> None:
        self._tokens = math.inf
        self._filled_ns = now_ns

    def wait_ns(self, rate: int, now_ns: int) -> int:
        """How long until one chunk may be asked for; 0: now."""
        self._fill(rate, now_ns)
        short = CHUNK_BYTES - self._tokens
        return 0 if short <= 0 else max(1, int(short * SECOND / rate))

    def spend(self) -> None:
        """A chunk is asked for."""
        self._tokens -= CHUNK_BYTES

    def _fill(self, rate: int, now_ns: int) -> None:
        most = max(rate, CHUNK_BYTES)
        self._tokens = min(most, self._tokens + rate * max(0, now_ns - self._filled_ns) / SECOND)
        self._filled_ns = now_ns
