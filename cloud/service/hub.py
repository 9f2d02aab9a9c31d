"""The hub at work: its long-lived tasks, and what happens when a message comes and when the broker comes and goes.

Every hub takes what devices say and answers what they ask. Of several hubs on one database one leads: it alone advances
rollouts, runs jobs, judges presence, publishes what is retained, and throws old things away.
"""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Iterable
from typing import Any

from cloud.ports import Scheduler
from cloud.service.asks import is_ask
from cloud.service.effects import Wake, wake
from cloud.service.heartbeats import Heartbeats
from cloud.service.looking import Looking
from cloud.service.parts import Intervals, Parts
from cloud.service.repeating import Repeated, repeat, rung
from cloud.service.rounds import Rounds
from wire.ports import Inbound, LinkError

log = logging.getLogger(__name__)

Named = tuple[str, Coroutine[Any, Any, None]]
"""A task to be, and its name."""


class Hub:
    """Runs until it is cancelled. Everything it knows it finds in the database when it starts, or begins to lead."""

    def __init__(self, parts: Parts, scheduler: Scheduler, intervals: Intervals) -> None:
        self._parts = parts
        self._heartbeats = Heartbeats(parts.store, parts.clock, parts.topics)
        self._note_keys = asyncio.Event()
        self._rounds = Rounds(parts, scheduler, intervals)
        self._looking = Looking(parts, scheduler, intervals)
        scheduler.every(intervals.trust_s, parts.trust.wake if parts.group else parts.trust.remind)
        if parts.group:  # identities that another hub took away
            scheduler.every(intervals.trust_s, lambda: parts.outbox.post(wake(Wake.USERS)))
        scheduler.every(intervals.keys_s, self._note_keys.set)

    async def run(self) -> None:
        """Serve the fleet."""
        parts = self._parts
        parts.link.on_message = self._on_message
        parts.link.on_up = self._looking.publish_everything
        parts.link.on_down = self._on_down
        await parts.trust.follow()  # before anything is signed: which keys does the root name?
        filters = (*parts.inbox.filters(), *self._heartbeats.filters(), *parts.asks.filters())
        await parts.link.subscribe(*(f"$share/{parts.group}/{one}" if parts.group else one for one in filters))
        await parts.link.start()
        try:
            await self._work()
        finally:
            parts.link.on_down = _ended

    async def _work(self) -> None:
        parts = self._parts
        own = (
            Repeated("trust metadata", parts.trust.woken, self._look_at_trust),
            Repeated("use of keys", lambda: rung(self._note_keys), self._save_use_of_keys),
        )
        await _all(
            ("outbox", parts.outbox.run()),
            ("inbox", parts.inbox.run()),
            ("heartbeats", self._heartbeats.run()),
            ("asks", parts.asks.run()),
            ("chunks", parts.chunk_answers.run()),
            *self._repeating(own),
            ("leading", parts.leadership.run(self._lead)),
        )

    async def _lead(self) -> None:
        """What one hub does, for as long as it leads. The one before may have left anything undone."""
        parts, presence = self._parts, self._parts.inbox.presence()
        await parts.inbox.presume_all_gone(parts.leadership)
        with contextlib.suppress(LinkError):  # then it is subscribed to when the connection is back
            await parts.link.subscribe(*presence)  # whoever is there has said so, retained
        self._looking.publish_everything()
        parts.trust.wake()
        jobs = (*self._looking.jobs(), *self._rounds.jobs())
        try:
            await _all(("jobs", parts.jobs.run()), *self._repeating(jobs))
        finally:
            with contextlib.suppress(LinkError):
                await parts.link.unsubscribe(*presence)

    def _repeating(self, jobs: Iterable[Repeated]) -> Iterable[Named]:
        return [(one.name, repeat(one, self._parts.failures, self._parts.clock)) for one in jobs]

    def _on_message(self, message: Inbound) -> None:
        parts = self._parts
        if self._heartbeats.take(message):
            return
        asker = is_ask(parts.topics, message.topic)
        if asker is not None:
            parts.asks.take(asker, message)
        elif parts.leadership.in_office or not parts.inbox.is_presence(message):
            parts.inbox.take(message)
        else:
            message.ack()  # who is there is the leader's business

    def _on_down(self, reason: str) -> None:
        log.warning("lost the broker: %s", reason)
        self._rounds.link_lost()

    async def _look_at_trust(self) -> None:
        trust = self._parts.trust
        if self._parts.leadership.leads:
            await trust.look()
            await self._looking.look_before_long()  # what was issued anew has to be published
        else:
            await trust.follow()

    async def _save_use_of_keys(self) -> None:
        await self._parts.keys_in_use.save(self._parts.store)


async def _all(*named: Named) -> None:
    """Run them until one fails, or all are cancelled."""
    async with asyncio.TaskGroup() as group:
        for name, coroutine in named:
            group.create_task(coroutine, name=name)


def _ended(reason: str) -> None:
    """The hub is stopping: losing the broker is no news."""
