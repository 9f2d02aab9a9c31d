"""The hub at work: its long-lived tasks, what happens when the broker comes up, and what the timers do.

Every hub takes what devices say and answers what they ask. Of several hubs on one database one leads: it alone advances
rollouts, runs jobs, judges presence, publishes what is retained, and throws old things away.
"""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from sqlalchemy import Connection

from cloud.errors import StoreError
from cloud.ports import ObjectMissingError, Scheduler, Store
from cloud.service import director, due, history, promotion, retention, rollouts
from cloud.service.alarm import Alarm
from cloud.service.asks import Asks, is_ask
from cloud.service.blobs import Blobs
from cloud.service.chunk_answers import ChunkAnswers
from cloud.service.deltas import Deltas
from cloud.service.effects import Effects, Wake, wake
from cloud.service.inbox import Inbox
from cloud.service.jobs import Jobs
from cloud.service.keys import KeysInUse
from cloud.service.leadership import DeposedError, Leadership
from cloud.service.outbox import Outbox
from cloud.service.rollouts import Means
from cloud.service.trust.service import Trust
from wire.ports import MILLISECOND, SECOND, Clock, Ids, Inbound, Link, LinkError
from wire.topics import Topics

log = logging.getLogger(__name__)

GATHER_NS = 100 * MILLISECOND
"""What reports of one moment lead to is decided together."""


@dataclass(frozen=True, slots=True)
class Intervals:
    """How often the timers look, in seconds."""

    rollouts_s: float = 1.0
    """While a rollout is under way."""
    republish_s: float = 5.0
    """While a rollout is under way, or another hub may have begun one."""
    rest_s: float = 60.0
    """When nothing is under way, as long as there is news; the first look follows it within `republish_s`, and so does
    every look for a device that works on orders that are not ours."""
    idle_s: float = 600.0
    """When there is none: whatever this hub begins itself rings its bells."""
    presence_s: float = 60.0
    trust_s: float = 60.0
    silence_s: float = 2700.0
    """A device of which nothing was heard for so long, and no last will either, counts as gone: three of the agent's
    intervals between two messages at rest."""
    prune_s: float = 900.0
    promotion_s: float = 30.0
    """While there is a version that a rule may promote."""
    keys_s: float = 60.0
    """How exactly it is known when a key was last used."""
    keep_telemetry_s: float = 7 * 24 * 3600.0
    """Points older than this are rolled up into hours. `stats` stay: the newest of each variant, not a history."""
    keep_hours_s: float = 365 * 24 * 3600.0
    """Hours older than this are removed."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The services that the hub runs, and the ports that it uses itself."""

    store: Store
    link: Link
    clock: Clock
    ids: Ids
    topics: Topics
    outbox: Outbox
    inbox: Inbox
    asks: Asks
    blobs: Blobs
    chunk_answers: ChunkAnswers
    deltas: Deltas
    jobs: Jobs
    trust: Trust
    leadership: Leadership
    keys_in_use: KeysInUse = field(default_factory=KeysInUse)
    group: str = ""
    """Of the shared subscription through which several hubs divide what devices say; empty = there is but this one."""


class Hub:
    """Runs until it is cancelled. Everything it knows it finds in the database when it starts, or begins to lead."""

    def __init__(self, parts: Parts, scheduler: Scheduler, intervals: Intervals) -> None:
        self._parts = parts
        self._seal = parts.trust.seal
        self._link_lost = asyncio.Event()
        self._look_around = asyncio.Event()
        self._silence_ns = _ns(intervals.silence_s)
        self._intervals = intervals
        self._prune_now = asyncio.Event()
        self._promote_now = asyncio.Event()
        self._note_keys = asyncio.Event()
        self._republish = asyncio.Event()
        self._republish_all = False
        self._under_way = True
        self._candidates = True
        self._tick_again = Alarm(parts.clock, lambda: parts.outbox.post(wake(Wake.ROLLOUTS)))
        self._look_again = Alarm(parts.clock, self._republish.set)
        self._looked_ns = 0
        scheduler.every(intervals.presence_s, self._look_around.set)
        scheduler.every(intervals.trust_s, parts.trust.wake if parts.group else parts.trust.remind)
        if parts.group:  # identities that another hub took away
            scheduler.every(intervals.trust_s, lambda: parts.outbox.post(wake(Wake.USERS)))
        scheduler.every(intervals.prune_s, self._prune_now.set)
        scheduler.every(intervals.promotion_s, self._promote_candidates)
        scheduler.every(intervals.keys_s, self._note_keys.set)

    async def run(self) -> None:
        """Serve the fleet."""
        parts = self._parts
        parts.link.on_message = self._on_message
        parts.link.on_up = self._on_up
        parts.link.on_down = self._on_down
        await parts.trust.follow()  # before anything is signed: which keys does the root name?
        filters = (*parts.inbox.filters(), *parts.asks.filters())
        await parts.link.subscribe(*(f"$share/{parts.group}/{one}" if parts.group else one for one in filters))
        await parts.link.start()
        try:
            await self._work()
        finally:
            parts.link.on_down = _ended

    async def _work(self) -> None:
        parts = self._parts
        async with asyncio.TaskGroup() as group:
            for name, loop in (
                ("outbox", parts.outbox.run()),
                ("inbox", parts.inbox.run()),
                ("asks", parts.asks.run()),
                ("chunks", parts.chunk_answers.run()),
                ("trust", _repeat("trust metadata", parts.trust.woken, self._look_at_trust)),
                ("keys", _repeat("use of keys", lambda: _rung(self._note_keys), self._save_use_of_keys)),
                ("leading", parts.leadership.run(self._lead)),
            ):
                group.create_task(loop, name=name)

    async def _lead(self) -> None:
        """What one hub does, for as long as it leads. The one before may have left anything undone."""
        parts = self._parts
        wakes, presence = parts.outbox.woken, parts.inbox.presence()
        await parts.inbox.presume_all_gone(parts.leadership)
        with contextlib.suppress(LinkError):  # then it is subscribed to when the connection is back
            await parts.link.subscribe(*presence)  # whoever is there has said so, retained
        self._publish_everything()
        parts.trust.wake()
        try:
            async with asyncio.TaskGroup() as group:
                for name, loop in (
                    ("deltas", _repeat("deltas", lambda: wakes(Wake.DELTAS), self._decide_deltas)),
                    ("jobs", parts.jobs.run()),
                    ("rollouts", _repeat("rollouts", lambda: self._gathered(Wake.ROLLOUTS), self._advance_rollouts)),
                    ("blobs", _repeat("chunks", lambda: self._gathered(Wake.BLOBS), parts.blobs.sync)),
                    ("news", _repeat("looking", lambda: wakes(Wake.LOOK), self._look_before_long)),
                    ("repair", _repeat("looking", lambda: wakes(Wake.AHEAD), self._look_without_rest)),
                    ("republish", _repeat("republishing", lambda: _rung(self._republish), self._look_what_is_due)),
                    ("link-lost", _repeat("presence", lambda: _rung(self._link_lost), self._presume_all_gone)),
                    ("silence", _repeat("presence", lambda: _rung(self._look_around), self._presume_silent_gone)),
                    ("pruning", _repeat("pruning", lambda: _rung(self._prune_now), self._prune)),
                    ("promotion", _repeat("promotion", lambda: _rung(self._promote_now), self._promote)),
                ):
                    group.create_task(loop, name=name)
        finally:
            with contextlib.suppress(LinkError):
                await parts.link.unsubscribe(*presence)

    async def _gathered(self, service: Wake) -> None:
        """Woken, and what else wakes it in the next moment has come too."""
        await self._parts.outbox.woken(service)
        await self._parts.clock.sleep(GATHER_NS)
        self._parts.outbox.quiet(service)

    def _on_message(self, message: Inbound) -> None:
        parts = self._parts
        asker = is_ask(parts.topics, message.topic)
        if asker is not None:
            parts.asks.take(asker, message)
        elif parts.leadership.in_office or not parts.inbox.is_presence(message):
            parts.inbox.take(message)
        else:
            message.ack()  # who is there is the leader's business

    def _on_up(self) -> None:
        """The broker may be a new one that knows nothing: everything is published again."""
        self._publish_everything()

    def _publish_everything(self) -> None:
        self._parts.blobs.broker_forgot()
        self._republish_all = True
        self._republish.set()
        self._parts.outbox.post(wake(Wake.BLOBS, Wake.ROLLOUTS))

    def _on_down(self, reason: str) -> None:
        """Wills may be lost from now on; whoever is there says so when the connection is back (retained status)."""
        log.warning("lost the broker: %s", reason)
        self._link_lost.set()

    def _promote_candidates(self) -> None:
        if self._candidates:
            self._promote_now.set()

    async def _look_at_trust(self) -> None:
        trust = self._parts.trust
        if self._parts.leadership.leads:
            await trust.look()
            await self._look_before_long()  # what was issued anew has to be published
        else:
            await trust.follow()

    async def _save_use_of_keys(self) -> None:
        await self._parts.keys_in_use.save(self._parts.store)

    async def _presume_all_gone(self) -> None:
        await self._parts.inbox.presume_all_gone(self._parts.leadership)

    async def _presume_silent_gone(self) -> None:
        await self._parts.inbox.presume_silent_gone(self._parts.leadership, self._silence_ns)

    async def _prune(self) -> None:
        now_ns, intervals = self._parts.clock.now_ns(), self._intervals
        await self._in_small_steps(retention.roll_up, now_ns - _ns(intervals.keep_telemetry_s))
        await self._in_small_steps(retention.forget, now_ns - _ns(intervals.keep_hours_s))
        await self._in_small_steps(history.forget, now_ns - history.KEEP_NS)

    async def _in_small_steps(self, step: Callable[[Connection, int], int], before_ns: int) -> None:
        while await self._parts.leadership.write(lambda conn: step(conn, before_ns)):
            pass

    async def _promote(self) -> None:
        """Looking goes over the evidence of every version, which nobody else is to wait for."""
        parts = self._parts
        if await parts.store.read(promotion.due):
            now_ns = parts.clock.now_ns()
            self._post(await parts.leadership.write(lambda conn: promotion.promote_due(conn, now_ns)))

    async def _advance_rollouts(self) -> None:
        """Not while nobody can be heard: what is not looked after is not charged to the devices."""
        parts = self._parts
        if not parts.link.connected:
            return  # when it is, we are woken
        means = Means(self._seal, parts.ids, parts.topics, parts.clock.now_ns())
        try:
            effects, under_way = await parts.leadership.write(functools.partial(_tick, means=means))
            self._note_under_way(under_way)
            self._post(effects)
        finally:
            if self._under_way:
                self._tick_again.set(_ns(self._intervals.rollouts_s))

    def _note_under_way(self, under_way: bool) -> None:
        if under_way and not self._under_way:
            self._look_again.within(_ns(self._intervals.republish_s))
        self._under_way = under_way
        self._parts.inbox.hurry(under_way)

    async def _decide_deltas(self) -> None:
        """Rollouts wait for it."""
        await self._parts.deltas.sync()
        self._parts.outbox.post(wake(Wake.ROLLOUTS))

    async def _look_before_long(self) -> None:
        """Something happened: as soon as the last look is long enough ago."""
        rested_ns = self._looked_ns + _ns(self._intervals.rest_s) - self._parts.clock.monotonic_ns()
        self._look_again.within(max(_ns(self._intervals.republish_s), rested_ns))

    async def _look_without_rest(self) -> None:
        """What a thief makes devices run must not last because we looked a moment ago."""
        self._look_again.within(_ns(self._intervals.republish_s))

    async def _look_what_is_due(self) -> None:
        self._looked_ns = self._parts.clock.monotonic_ns()
        intervals, often, idle = self._intervals, self._under_way or self._parts.group, False
        self._look_again.set(_ns(intervals.republish_s if often else intervals.idle_s))
        try:
            found = await self._parts.store.read(due.look)
            idle = not found.desired and not found.wakes
            self._note_candidates(found.promotion)
            if found.desired or self._republish_all:
                await self._publish_desired()
            self._parts.outbox.post(Effects(wakes=found.wakes))  # other hubs add jobs and rollouts, too
        finally:
            if not idle:
                await self._look_before_long()

    def _note_candidates(self, there_are: bool) -> None:
        if there_are and not self._candidates:
            self._promote_now.set()
        self._candidates = there_are

    async def _publish_desired(self) -> None:
        """What devices have not accepted yet, or everything after the broker was away.

        A device that is ahead of us shows that our database was restored: it is told anew, above what it has accepted.
        Looking for one goes over the whole fleet, which nobody else is to wait for.
        """
        parts = self._parts
        if await parts.store.read(director.outdated):
            await parts.leadership.write(lambda conn: director.reissue_outdated(conn, self._seal, parts.clock.now_ns()))
        query = director.everything if self._republish_all else director.unconfirmed
        self._republish_all = False
        self._post(await parts.store.read(functools.partial(query, topics=parts.topics)))

    def _post(self, effects: Effects) -> None:
        """What is retained is published by the leader only, even if it has been paused in between."""
        self._parts.outbox.post(effects, only_while=lambda: self._parts.leadership.leads)


def _ns(seconds: float) -> int:
    return int(seconds * SECOND)


def _tick(conn: Connection, means: Means) -> tuple[Effects, bool]:
    """Advance the rollouts; is there one that has to be looked after?"""
    return rollouts.tick(conn, means), rollouts.under_way(conn)


def _ended(reason: str) -> None:
    """The hub is stopping: losing the broker is no news."""


async def _repeat(what: str, woken: Callable[[], Awaitable[None]], step: Callable[[], Awaitable[None]]) -> None:
    """Do `step` whenever woken. A step that fails is done again at the next wake: the truth is in the database."""
    while True:
        await woken()
        try:
            await step()
        except LinkError as error:
            log.info("%s: put off, %s", what, error)
        except DeposedError as error:
            log.debug("%s: not done, %s", what, error)
        except StoreError as error:
            log.warning("%s: put off, %s", what, error)
        except ObjectMissingError as error:
            log.error("%s: an object that devices need is gone: %s", what, error)
        except Exception:
            log.exception("%s failed; it will be tried again", what)


async def _rung(bell: asyncio.Event) -> None:
    await bell.wait()
    bell.clear()
