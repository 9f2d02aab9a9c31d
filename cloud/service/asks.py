"""What devices ask (`wire.asks`): taken in turn, answered to the device that asked, remembered by nobody.

A question may be dropped at any time, since it is asked again until it is answered; so a flood costs its sender only.
One that is asked again while it waits is the same question.
What is asked is looked up by the kind of the question: each handler belongs to the service that knows the answer.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sqlalchemy import Connection, select

from cloud.ports import Store
from cloud.tables import ENROLLED, devices
from wire.asks import Answer, Ask, MetadataPiece, Refused, Renewed, TimeTold
from wire.codec import decode, encode
from wire.errors import WireError
from wire.ports import Inbound, Link, LinkError
from wire.topics import Topics, Upward

log = logging.getLogger(__name__)

MAX_ASK_BYTES = 16 * 1024
MAX_WAITING_BYTES = 32 * 1024 * 1024
WORKERS = 16
MAX_WAITING_PER_DEVICE = 16

Reply = MetadataPiece | TimeTold | Renewed | Refused | None
Handler = Callable[[str, Any], Awaitable[Reply]]
"""(device, question) -> answer; None when there is nothing (more) to say."""


class Asks:
    """Answers questions, WORKERS at a time: an answer that the broker is slow to take holds up few others."""

    def __init__(self, store: Store, link: Link, topics: Topics, handlers: Mapping[type, Handler]) -> None:
        self._store = store
        self._link = link
        self._topics = topics
        self._handlers = handlers
        self._queue: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
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
            self._queue.put_nowait((device, question))
        elif not waiting:
            del self._waiting[device]

    async def run(self) -> None:
        """Answer for ever."""
        async with asyncio.TaskGroup() as group:
            for number in range(WORKERS):
                group.create_task(self._work(), name=f"asks-{number}")

    async def _work(self) -> None:
        while True:
            device, payload = await self._queue.get()
            self._waiting[device].discard(payload)
            self._waiting_bytes -= len(payload)
            if not self._waiting[device]:
                del self._waiting[device]
            try:
                await self._answer(device, payload)
            except LinkError as error:
                log.info("an answer to %s was not sent, it will ask again: %s", device, error)
            except Exception:
                log.exception("a question of %s failed; it will ask again", device)

    async def _answer(self, device: str, payload: bytes) -> None:
        if not await self._store.read(lambda conn: _may_ask(conn, device)):
            return
        try:
            ask = decode(payload, Ask, limit=MAX_ASK_BYTES)
        except WireError as error:
            log.info("%s asked what cannot be read: %s", device, error)
            return
        handler = self._handlers.get(type(ask.what))
        reply = await handler(device, ask.what) if handler else Refused(reason="this hub does not answer that")
        if reply is not None:
            answer = encode(Answer(id=ask.id, what=reply))
            await self._link.publish(self._topics.dn(device, "answer"), answer)


def is_ask(topics: Topics, topic: str) -> str | None:
    """The device that asks on this topic, if it is one for questions."""
    try:
        parsed = topics.parse(topic)
    except WireError:
        return None
    return parsed.device if isinstance(parsed, Upward) and parsed.channel == "ask" else None


def _may_ask(conn: Connection, device: str) -> bool:
    """Enrolled and not revoked."""
    return conn.execute(select(devices.c.name).where(devices.c.name == device, ENROLLED)).first() is not None
