"""What devices ask (`wire.asks`): taken in turn, answered to the device that asked, remembered by nobody.

Whether the asker may ask, and what the database says to it, is looked up for all questions of a moment together. A
question may be dropped at any time, since it is asked again until it is answered; so a flood costs its sender
only. One that is asked again while it waits is the same question.

Who answers is decided by the kind of the question: each handler and each look belongs to the service that knows.
"""

import asyncio
import functools
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, select

from cloud.errors import StoreError
from cloud.many import among
from cloud.ports import Store
from cloud.tables import ENROLLED, devices
from wire.asks import Answer, Ask, MetadataPiece, Refused, Renewed, TimeTold
from wire.codec import decode, encode
from wire.errors import WireError
from wire.ports import MILLISECOND, Clock, Inbound, Link, LinkError
from wire.topics import Topics, Upward

log = logging.getLogger(__name__)

MAX_ASK_BYTES = 16 * 1024
MAX_WAITING_BYTES = 32 * 1024 * 1024
WORKERS = 16
AT_ONCE = 1_000
"""Questions that one look answers. Databases take only so many names in a statement (PostgreSQL 65,535), and a look
that is refused would drop all of them, as often as they are asked."""
MAX_WAITING_PER_DEVICE = 16
GATHER_NS = 25 * MILLISECOND
"""How long a question waits for those of other devices: little beside its way here and back."""

Reply = MetadataPiece | TimeTold | Renewed | Refused | None
_KNOWN = select(devices.c.name).where(among(devices.c.name, "names"), ENROLLED)
Handler = Callable[[str, Any], Awaitable[Reply]]
"""(device, question) -> answer; None when there is nothing (more) to say."""


@dataclass(frozen=True, slots=True)
class Look:
    """How questions are answered that take no more of the database than a look."""

    find: Callable[[Connection, Sequence[Any]], Sequence[Any]]
    """What it says to each of these questions."""
    reply: Callable[[str, Any, Any], Reply]
    """(device, question, what was found) -> answer."""


class Asks:
    """Answers questions, WORKERS at a time: an answer that the broker is slow to take holds up few others."""

    def __init__(
        self,
        store: Store,
        link: Link,
        clock: Clock,
        topics: Topics,
        handlers: Mapping[type, Handler],
        looks: Mapping[type, Look] = MappingProxyType({}),
    ) -> None:
        self._store = store
        self._link = link
        self._clock = clock
        self._topics = topics
        self._handlers = handlers
        self._looks = looks
        self._arrived: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self._queue: asyncio.Queue[_Question] = asyncio.Queue()
        self._waiting: defaultdict[str, set[bytes]] = defaultdict(set)
        self._waiting_bytes = 0

    def filters(self) -> tuple[str, ...]:
        """What the hub subscribes to for this."""
        return (self._topics.all_up("ask"),)

    def take(self, device: str, message: Inbound) -> None:
        """A question arrived from `device`."""
        message.ack()
        question, waiting = message.payload, self._waiting[device]
        room = self._waiting_bytes + len(question) <= MAX_WAITING_BYTES and len(waiting) < MAX_WAITING_PER_DEVICE
        if room and question not in waiting:
            waiting.add(question)
            self._waiting_bytes += len(question)
            self._arrived.put_nowait((device, question))
        elif not waiting:
            del self._waiting[device]

    async def run(self) -> None:
        """Answer for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._admit(), name="asks-admit")
            for number in range(WORKERS):
                group.create_task(self._work(), name=f"asks-{number}")

    async def _admit(self) -> None:
        while True:
            arrived = [await self._arrived.get()]
            await self._clock.sleep(GATHER_NS)
            while len(arrived) < AT_ONCE and not self._arrived.empty():
                arrived.append(self._arrived.get_nowait())
            questions = [question for device, payload in arrived if (question := self._question(device, payload))]
            try:
                await self._store.read(functools.partial(self._look, questions))
            except StoreError as error:
                log.warning("%d questions are dropped, they will be asked again: %s", len(questions), error)
            except Exception:
                log.exception("%d questions cannot be looked up; they will be asked again", len(questions))
            for question in questions:
                if question.admitted:
                    self._queue.put_nowait(question)
                else:
                    self._forget(question.device, question.payload)

    def _question(self, device: str, payload: bytes) -> "_Question | None":
        try:
            return _Question(device, payload, decode(payload, Ask, limit=MAX_ASK_BYTES))
        except WireError as error:
            log.info("%s asked what cannot be read: %s", device, error)
            self._forget(device, payload)
            return None

    def _look(self, questions: Sequence["_Question"], conn: Connection) -> None:
        """Who may ask? And what does the database say to it?"""
        names = sorted({question.device for question in questions})
        known = set(conn.execute(_KNOWN, {"names": names}).scalars().all())
        for question in questions:
            question.admitted = question.device in known
        for kind, look in self._looks.items():
            some = [one for one in questions if one.admitted and isinstance(one.ask.what, kind)]
            if some:
                for question, found in zip(some, look.find(conn, [one.ask.what for one in some]), strict=True):
                    question.found = found

    def _forget(self, device: str, payload: bytes) -> None:
        """It waits no longer: it may be asked again."""
        self._waiting_bytes -= len(payload)
        self._waiting[device].discard(payload)
        if not self._waiting[device]:
            del self._waiting[device]

    async def _work(self) -> None:
        while True:
            question = await self._queue.get()
            self._forget(question.device, question.payload)
            try:
                await self._answer(question)
            except LinkError as error:
                log.info("an answer to %s was not sent, it will ask again: %s", question.device, error)
            except Exception:
                log.exception("a question of %s failed; it will ask again", question.device)

    async def _answer(self, question: "_Question") -> None:
        device, ask = question.device, question.ask
        reply = await self._reply(device, ask.what, question.found)
        if reply is not None:
            answer = encode(Answer(id=ask.id, what=reply))
            await self._link.publish(self._topics.dn(device, "answer"), answer)

    async def _reply(self, device: str, what: Any, found: Any) -> Reply:
        look, handler = self._looks.get(type(what)), self._handlers.get(type(what))
        if look is not None:
            return look.reply(device, what, found)
        return await handler(device, what) if handler else Refused(reason="this hub does not answer that")


@dataclass(slots=True)
class _Question:
    """A question, and what the look at the database said of it."""

    device: str
    payload: bytes
    ask: Ask
    admitted: bool = False
    found: Any = None


def is_ask(topics: Topics, topic: str) -> str | None:
    """The device that asks on this topic, if it is one for questions."""
    if not topic.endswith("/ask"):
        return None
    try:
        parsed = topics.parse(topic)
    except WireError:
        return None
    return parsed.device if isinstance(parsed, Upward) and parsed.channel == "ask" else None
