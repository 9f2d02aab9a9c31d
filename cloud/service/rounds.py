"""What the leading hub does because time has passed: who is silent counts as gone, and old things are thrown away."""

import asyncio
from collections.abc import Callable

from sqlalchemy import Connection

from cloud.ports import Scheduler
from cloud.service import history, retention
from cloud.service.parts import Intervals, Parts
from cloud.service.repeating import Repeated, rung
from wire.ports import SECOND


class Rounds:
    """Presence and pruning. Several alarms before a job is done are one."""

    def __init__(self, parts: Parts, scheduler: Scheduler, intervals: Intervals) -> None:
        self._parts = parts
        self._intervals = intervals
        self._link_lost = asyncio.Event()
        self._silence = asyncio.Event()
        self._pruning = asyncio.Event()
        scheduler.every(intervals.presence_s, self._silence.set)
        scheduler.every(intervals.prune_s, self._pruning.set)

    def jobs(self) -> tuple[Repeated, ...]:
        """What there is to be repeated while this hub leads."""
        return (
            Repeated("presence without a link", lambda: rung(self._link_lost), self._presume_all_gone),
            Repeated("presence of the silent", lambda: rung(self._silence), self._presume_silent_gone),
            Repeated("pruning", lambda: rung(self._pruning), self._prune),
        )

    def link_lost(self) -> None:
        """Wills may be lost from now on; whoever is there says so when the connection is back (retained status)."""
        self._link_lost.set()

    async def _presume_all_gone(self) -> None:
        await self._parts.inbox.presume_all_gone(self._parts.leadership)

    async def _presume_silent_gone(self) -> None:
        patience_ns = int(self._intervals.silence_s * SECOND)
        await self._parts.inbox.presume_silent_gone(self._parts.leadership, patience_ns)

    async def _prune(self) -> None:
        now_ns, intervals = self._parts.clock.now_ns(), self._intervals
        await self._in_small_steps(retention.roll_up, now_ns - int(intervals.keep_telemetry_s * SECOND))
        await self._in_small_steps(retention.forget, now_ns - int(intervals.keep_hours_s * SECOND))
        await self._in_small_steps(history.forget, now_ns - history.KEEP_NS)
        await self._parts.jobs.discard(now_ns - int(intervals.keep_jobs_s * SECOND))

    async def _in_small_steps(self, step: Callable[[Connection, int], int], before_ns: int) -> None:
        while await self._parts.leadership.write(lambda conn: step(conn, before_ns)):
            pass
