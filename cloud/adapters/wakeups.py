"""APScheduler as an alarm clock: it only calls; what there is to do is found in the database."""

from collections.abc import Callable

from apscheduler.schedulers.asyncio import AsyncIOScheduler


class Wakeups:
    """The `cloud.ports.Scheduler` on the running event loop."""

    def __init__(self) -> None:
        self._scheduler = AsyncIOScheduler(timezone="UTC")

    def every(self, seconds: float, call: Callable[[], None]) -> None:
        """Call about every `seconds`; calls that were missed are made up for by one."""

        async def on_loop() -> None:
            call()

        self._scheduler.add_job(on_loop, "interval", seconds=seconds, coalesce=True, misfire_grace_time=None)

    def start(self) -> None:
        """Begin to call (inside a running event loop)."""
        self._scheduler.start()

    def stop(self) -> None:
        """Call no more."""
        self._scheduler.shutdown(wait=False)
