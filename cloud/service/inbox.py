"""From the broker into the database: messages gather while one transaction runs and are acknowledged after the next."""

import asyncio
import functools
import logging

from sqlalchemy import update

from cloud.ports import Store
from cloud.service.enrolment import Door
from cloud.service.ingest import Received, apply
from cloud.service.outbox import Outbox
from cloud.tables import devices
from wire.ports import Clock, Inbound

log = logging.getLogger(__name__)

MAX_BATCH = 500
CHANNELS = ("status", "reported", "telemetry")


class Inbox:
    """Takes what devices say, in order of arrival."""

    def __init__(self, store: Store, outbox: Outbox, clock: Clock, door: Door) -> None:
        self._store = store
        self._outbox = outbox
        self._clock = clock
        self._door = door
        self._queue: asyncio.Queue[Inbound] = asyncio.Queue()

    def filters(self) -> tuple[str, ...]:
        """What the hub subscribes to."""
        topics = self._door.topics
        return (*(topics.all_up(channel) for channel in CHANNELS), f"{topics.root}/enrol/up/+")

    def take(self, message: Inbound) -> None:
        """The link's callback."""
        self._queue.put_nowait(message)

    async def run(self) -> None:
        """Take messages for ever."""
        while True:
            batch = [await self._queue.get()]
            while not self._queue.empty() and len(batch) < MAX_BATCH:
                batch.append(self._queue.get_nowait())
            await self._take(batch)

    async def presume_all_gone(self) -> None:
        """Nobody is known to be there until they say so (again)."""
        gone = update(devices).where(devices.c.online).values(online=False, gone_ns=self._clock.now_ns())
        await self._store.write(lambda conn: conn.execute(gone))

    async def presume_silent_gone(self, patience_ns: int) -> None:
        """A will can get lost with its broker: devices heard of longer ago than `patience_ns` count as gone."""
        before = self._clock.now_ns() - patience_ns
        gone = update(devices).where(devices.c.online, devices.c.seen_ns < before)
        gone = gone.values(online=False, gone_ns=devices.c.seen_ns)
        await self._store.write(lambda conn: conn.execute(gone))

    async def _take(self, batch: list[Inbound]) -> None:
        received = [Received(message.topic, message.payload) for message in batch]
        call = functools.partial(apply, batch=received, now_ns=self._clock.now_ns(), door=self._door)
        try:
            effects = await self._store.write(call)
        except Exception:
            if len(batch) == 1:
                log.exception("dropped a message on %s that the hub cannot handle", batch[0].topic)
                batch[0].ack()
                return
            for message in batch:  # one of them is our own defect: it must not hold up the others
                await self._take([message])
            return
        for message in batch:
            message.ack()
        self._outbox.post(effects)
