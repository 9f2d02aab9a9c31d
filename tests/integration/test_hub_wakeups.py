"""The hub's timers: they go on when somebody sets the clock."""

import asyncio
import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from apscheduler.schedulers import asyncio as scheduling
from apscheduler.schedulers import base

from cloud.adapters.wakeups import Wakeups


class Clock:
    """The wall clock, as it was set."""

    ahead_s = 0.0

    def wall(self) -> float:
        """Seconds since the epoch."""
        return time.time() + self.ahead_s

    def dates(self) -> type[datetime]:
        """What APScheduler asks for the time."""
        clock = self

        class Dates(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> "Dates":  # type: ignore[override]
                return cls.fromtimestamp(clock.wall(), tz)

        return Dates


@pytest.mark.parametrize("hours", [-1, 1])
def test_timers_go_on_when_the_clock_is_set(monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    """Set back by an hour, a timer would be silent for an hour."""
    clock, calls = Clock(), asyncio.Queue[None]()
    for module in (base, scheduling):
        if hasattr(module, "datetime"):
            monkeypatch.setattr(module, "datetime", clock.dates())
    monkeypatch.setattr("cloud.adapters.wakeups.datetime", clock.dates())

    async def scenario() -> None:
        wakeups = Wakeups(clock.wall, look_s=0.05)
        wakeups.every(0.1, lambda: calls.put_nowait(None))
        wakeups.start()
        try:
            async with asyncio.timeout(5):
                for _ in range(2):
                    await calls.get()
                clock.ahead_s = timedelta(hours=hours).total_seconds()
                for _ in range(3):
                    await calls.get()
        finally:
            wakeups.stop()

    asyncio.run(scenario())
