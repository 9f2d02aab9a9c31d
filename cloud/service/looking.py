"""What the leading hub looks after: rollouts, what devices have not accepted yet, versions that a rule may promote.

Whatever this hub changes itself rings the bell of those concerned at once. A look at what is due (`due.look`) follows
every bell, finds what rang none, and goes over nothing but what is due. It comes often while something is under way,
seldom while nothing is.
"""

import asyncio
import functools

from sqlalchemy import Connection

from cloud.ports import Scheduler
from cloud.service import director, due, promotion, rollouts
from cloud.service.alarm import Alarm
from cloud.service.effects import Effects, Wake, wake
from cloud.service.parts import Intervals, Parts
from cloud.service.repeating import Repeated, rung
from cloud.service.rollouts import Means
from wire.ports import MILLISECOND, SECOND

GATHER_NS = 100 * MILLISECOND
"""What reports of one moment lead to is decided together."""


class Looking:
    """The leader's looks. What it believes only decides how often it looks, and is put right by each of them."""

    def __init__(self, parts: Parts, scheduler: Scheduler, intervals: Intervals) -> None:
        self._parts = parts
        self._seal = parts.trust.seal
        self._rollouts_ns, self._republish_ns, self._rest_ns, self._idle_ns = (
            int(seconds * SECOND)
            for seconds in (intervals.rollouts_s, intervals.republish_s, intervals.rest_s, intervals.idle_s)
        )
        self._look_now = asyncio.Event()
        self._promote_now = asyncio.Event()
        self._tick_again = Alarm(parts.clock, lambda: parts.outbox.post(wake(Wake.ROLLOUTS)))
        self._look_again = Alarm(parts.clock, self._look_now.set)
        self._looked_ns = 0
        self._broker_forgot = False
        """Everything has to be published by the next look."""
        self._under_way = True
        """Is there a rollout that time alone may move?"""
        self._candidates = True
        """Is there a version that a rule may promote?"""
        scheduler.every(intervals.promotion_s, self._promote_candidates)

    def jobs(self) -> tuple[Repeated, ...]:
        """What there is to be repeated while this hub leads."""
        woken = self._parts.outbox.woken
        return (
            Repeated("deltas", lambda: woken(Wake.DELTAS), self._decide_deltas),
            Repeated("rollouts", lambda: self._gathered(Wake.ROLLOUTS), self._advance_rollouts),
            Repeated("retained chunks", lambda: self._gathered(Wake.BLOBS), self._parts.blobs.sync),
            Repeated("news", lambda: woken(Wake.LOOK), self.look_before_long),
            Repeated("repair", lambda: woken(Wake.AHEAD), self._look_without_rest),
            Repeated("what is due", lambda: rung(self._look_now), self._look_what_is_due),
            Repeated("promotion", lambda: rung(self._promote_now), self._promote),
        )

    def publish_everything(self) -> None:
        """The broker may be a new one that knows nothing: everything is published again."""
        self._parts.blobs.broker_forgot()
        self._broker_forgot = True
        self._look_now.set()
        self._parts.outbox.post(wake(Wake.BLOBS, Wake.ROLLOUTS))

    async def look_before_long(self) -> None:
        """Something happened: as soon as the last look is long enough ago."""
        rested_ns = self._looked_ns + self._rest_ns - self._parts.clock.monotonic_ns()
        self._look_again.within(max(self._republish_ns, rested_ns))

    async def _look_without_rest(self) -> None:
        """What a thief makes devices run must not last because we looked a moment ago."""
        self._look_again.within(self._republish_ns)

    async def _gathered(self, service: Wake) -> None:
        """Woken, and what else wakes it in the next moment has come too."""
        await self._parts.outbox.woken(service)
        await self._parts.clock.sleep(GATHER_NS)
        self._parts.outbox.quiet(service)

    async def _decide_deltas(self) -> None:
        """Rollouts wait for it."""
        await self._parts.deltas.sync()
        self._parts.outbox.post(wake(Wake.ROLLOUTS))

    async def _advance_rollouts(self) -> None:
        """Not while nobody can be heard: what is not looked after is not charged to the devices."""
        parts = self._parts
        if not parts.link.connected:
            return  # when it is, we are woken
        if not self._under_way and not await parts.store.read(rollouts.under_way):
            return  # which spares a transaction whenever a device comes or goes
        means = Means(self._seal, parts.ids, parts.topics, parts.clock.now_ns())
        try:
            effects, under_way = await parts.leadership.write(functools.partial(_tick, means=means))
            self._note_under_way(under_way)
            self._post(effects)
        finally:
            if self._under_way:
                self._tick_again.set(self._rollouts_ns)

    def _note_under_way(self, under_way: bool) -> None:
        if under_way and not self._under_way:
            self._look_again.within(self._republish_ns)
        self._under_way = under_way
        self._parts.inbox.hurry(under_way)

    async def _look_what_is_due(self) -> None:
        self._looked_ns = self._parts.clock.monotonic_ns()
        often, idle = self._under_way or self._parts.group, False
        self._look_again.set(self._republish_ns if often else self._idle_ns)
        try:
            found = await self._parts.store.read(due.look)
            idle = not found.desired and not found.wakes
            self._note_candidates(found.promotion)
            if found.desired or self._broker_forgot:
                await self._publish_desired()
            self._parts.outbox.post(Effects(wakes=found.wakes))  # other hubs add jobs and rollouts, too
        finally:
            if not idle:
                await self.look_before_long()

    async def _publish_desired(self) -> None:
        """What devices have not accepted yet, or everything after the broker was away.

        A device that is ahead of us shows that our database was restored: it is told anew, above what it has accepted.
        """
        parts = self._parts
        if await parts.store.read(director.outdated):
            await parts.leadership.write(lambda conn: director.reissue_outdated(conn, self._seal, parts.clock.now_ns()))
        query = director.everything if self._broker_forgot else director.unconfirmed
        self._broker_forgot = False
        self._post(await parts.store.read(functools.partial(query, topics=parts.topics)))

    def _promote_candidates(self) -> None:
        if self._candidates:
            self._promote_now.set()

    def _note_candidates(self, there_are: bool) -> None:
        if there_are and not self._candidates:
            self._promote_now.set()
        self._candidates = there_are

    async def _promote(self) -> None:
        """Looking goes over the evidence of every version, which nobody else is to wait for."""
        parts = self._parts
        if await parts.store.read(promotion.due):
            now_ns = parts.clock.now_ns()
            self._post(await parts.leadership.write(lambda conn: promotion.promote_due(conn, now_ns)))

    def _post(self, effects: Effects) -> None:
        """What is retained is published by the leader only, even if it has been paused in between."""
        self._parts.outbox.post(effects, only_while=lambda: self._parts.leadership.leads)


def _tick(conn: Connection, means: Means) -> tuple[Effects, bool]:
    """Advance the rollouts; is there one that has to be looked after?"""
    return rollouts.tick(conn, means), rollouts.under_way(conn)
