"""How fast callers may go: requests, streams and uploads per key, guesses per address.

Counted in memory, bounded, forgotten at a restart.

An address that showed too many bad keys is not listened to for a while. A key that was good from the same address
before still is: so a guesser behind a shared proxy does not lock his neighbours out.
"""

import contextlib
import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterator
from typing import Final, TypeVar

from cloud.core.throttle import Bucket, Rate, spend, wait_s
from cloud.errors import BusyError, TooManyError

V = TypeVar("V")

REQUESTS: Final = Rate(per_s=50.0, burst=500)
GUESSES: Final = Rate(per_s=0.1, burst=10)
MAX_REMEMBERED: Final = 10_000
MAX_STREAMS: Final = 20
"""Event streams that one key holds at a time."""
MAX_UPLOADS: Final = 4
"""Uploads that a hub takes at a time: each may fill as much of its disk as an object, and is looked into by a child."""
MAX_UPLOADS_OF_A_KEY: Final = 2
FREE_AGAIN_S: Final = 5.0
IPV6_SITE_BITS: Final = 64
"""Who has one IPv6 address has that many of them."""


class Limits:
    """The buckets of one hub process."""

    def __init__(self, requests: Rate = REQUESTS, guesses: Rate = GUESSES) -> None:
        self._requests, self._guesses = requests, guesses
        self._spent: OrderedDict[Hashable, Bucket] = OrderedDict()
        self._guessed: OrderedDict[Hashable, Bucket] = OrderedDict()
        self._streams: Counter[str] = Counter()
        self._uploads: Counter[str] = Counter()
        self._trusted: OrderedDict[Hashable, None] = OrderedDict()

    def hear(self, address: str, sha256: str, now_ns: int) -> None:
        """May somebody at `address` try this key? Raises TooManyError."""
        place = _place(address)
        if (place, sha256) in self._trusted:
            return
        wait = wait_s(self._guessed.get(place), self._guesses, now_ns)
        if wait > 0:
            raise TooManyError("too many unusable API keys came from your address: wait", wait)

    def bad(self, address: str, sha256: str, now_ns: int) -> None:
        """It was no usable key."""
        place = _place(address)
        self._trusted.pop((place, sha256), None)
        _keep(self._guessed, place, spend(self._guessed.get(place), self._guesses, now_ns))

    def good(self, address: str, sha256: str) -> None:
        """It was one."""
        _keep(self._trusted, (_place(address), sha256), None)

    def count(self, key: str, own_per_s: float | None, now_ns: int) -> None:
        """One more request of the key, which may have a rate of its own. Raises TooManyError."""
        rate = self._requests if own_per_s is None else Rate(own_per_s, max(1, round(own_per_s * 2)))
        wait = wait_s(self._spent.get(key), rate, now_ns)
        if wait > 0:
            raise TooManyError(f"this API key may make {rate.per_s:g} requests a second: wait", wait)
        _keep(self._spent, key, spend(self._spent.get(key), rate, now_ns))

    @contextlib.contextmanager
    def stream(self, key: str) -> Iterator[None]:
        """One more stream of the key while the block runs. Raises TooManyError."""
        if self._streams[key] >= MAX_STREAMS:
            raise TooManyError(f"this API key holds {MAX_STREAMS} streams already: close one", 1.0)
        with _one_more(self._streams, key):
            yield

    @contextlib.contextmanager
    def upload(self, key: str) -> Iterator[None]:
        """One more upload with the key while the block runs. Raises TooManyError, BusyError."""
        if self._uploads[key] >= MAX_UPLOADS_OF_A_KEY:
            raise TooManyError(f"this API key uploads {MAX_UPLOADS_OF_A_KEY} files already: wait", FREE_AGAIN_S)
        if self._uploads.total() >= MAX_UPLOADS:
            raise BusyError(f"the hub takes {MAX_UPLOADS} uploads at a time, and has as many: wait", FREE_AGAIN_S)
        with _one_more(self._uploads, key):
            yield


@contextlib.contextmanager
def _one_more(held: Counter[str], key: str) -> Iterator[None]:
    held[key] += 1
    try:
        yield
    finally:
        held[key] -= 1
        if not held[key]:
            del held[key]


def _place(address: str) -> str:
    """Where the listener takes both, an IPv4 caller's address is written as an IPv6 one (`::ffff:192.0.2.1`)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    mapped = parsed.ipv4_mapped
    return str(mapped or ipaddress.ip_network((parsed, IPV6_SITE_BITS), strict=False))


def _keep(table: "OrderedDict[Hashable, V]", name: Hashable, value: V) -> None:
    table[name] = value
    table.move_to_end(name)
    if len(table) > MAX_REMEMBERED:
        table.popitem(last=False)
