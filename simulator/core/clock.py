"""Virtual time behind the `wire.ports.Clock` port."""

import asyncio
from collections.abc import Callable
from typing import Final

from simulator.core.loop import VirtualLoop
from wire.ports import SECOND, Timer

EPOCH_NS: Final = 1_800_000_000 * SECOND
"""Wall-clock time at which every simulated run starts."""


class VirtualClock:
    """The clock of one program: the loop's time, with its wall clock off by `skew_ns`, which may change at any time."""

    def __init__(self, loop: VirtualLoop, skew_ns: int = 0) -> None:
        self.loop = loop
        self.skew_ns = skew_ns
        self.suspended_ns = 0
        """So long the machine was suspended so far, on top of the loop's time."""

    def now_ns(self) -> int:
        """Wall clock."""
        return EPOCH_NS + self.loop.now_ns + self.skew_ns

    def monotonic_ns(self) -> int:
        """Nanoseconds since the start of the run."""
        return self.loop.now_ns

    def elapsed_ns(self) -> int:
        """As `monotonic_ns`, and the time for which the machine was suspended."""
        return self.loop.now_ns + self.suspended_ns

    async def sleep(self, ns: int) -> None:
        """Return when `ns` nanoseconds of virtual time have passed."""
        done: asyncio.Future[None] = self.loop.create_future()
        timer = self.loop.call_at_ns(self.loop.now_ns + ns, _finish, done)
        try:
            await done
        finally:
            timer.cancel()

    def call_later(self, ns: int, call: Callable[[], None]) -> Timer:
        """Call on the loop in `ns` nanoseconds."""
        return self.loop.call_at_ns(self.loop.now_ns + ns, call)


def _finish(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
