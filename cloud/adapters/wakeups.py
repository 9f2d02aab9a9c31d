"""APScheduler as an alarm clock: it only calls; what there is to do is found in the database.

APScheduler reckons by the wall clock: set back by an hour, it would be silent for an hour. So it is looked for within
seconds whether somebody has set the clock, and then everything is called once and goes on from there.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

from apscheduler.schedulers.asyncio import AsyncIOScheduler

LOOK_S = 5.0
"""How soon it is noticed that the clock was set."""
SET_S = 1.0
"""By so much at least: less is a clock that is being corrected."""


class Wakeups:
    """The `cloud.ports.Scheduler` on the running event loop. `wall`: the wall clock, in seconds."""

    def __init__(self, wall: Callable[[], float] = time.time, look_s: float = LOOK_S) -> None:
        self._scheduler = AsyncIOScheduler(timezone="UTC")
        self._wall = wall
        self._look_s = look_s
        self._offset_s = 0.0
        self._look: asyncio.TimerHandle | None = None

    def every(self, seconds: float, call: Callable[[], None]) -> None:
        """Call about every `seconds`; calls that were missed are made up for by one."""

        async def on_loop() -> None:
            call()

        self._scheduler.add_job(on_loop, "interval", seconds=seconds, coalesce=True, misfire_grace_time=None)

    def start(self) -> None:
        """Begin to call (inside a running event loop)."""
        self._scheduler.start()
        self._offset_s = self._wall() - time.monotonic()
        self._watch()

    def stop(self) -> None:
        """Call no more."""
        if self._look is not None:
            self._look.cancel()
        self._scheduler.shutdown(wait=False)

    def _watch(self) -> None:
        offset_s = self._wall() - time.monotonic()
        if abs(offset_s - self._offset_s) > SET_S:
            for job in self._scheduler.get_jobs():
                job.modify(next_run_time=datetime.now(UTC))
        self._offset_s = offset_s
        self._look = asyncio.get_running_loop().call_later(self._look_s, self._watch)
