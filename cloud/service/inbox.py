"""From the broker into the database: messages gather while one transaction runs and are acknowledged after the next.

Whatever comes waits a moment for that of other devices, a longer one while many have something to say, so that a fleet
is not a transaction for every few messages; and telemetry is in no hurry at all, unless somebody waits for figures. Of
whom it comes again, or has more to tell, is not kept waiting.
"""

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Callable

from sqlalchemy import Connection, func, select, update

from cloud.errors import StoreError
from cloud.ports import Store
from cloud.service.alarm import Alarm
from cloud.service.effects import Effects
from cloud.service.enrolment import Door
from cloud.service.ingest import Received, apply
from cloud.service.outbox import Outbox
from cloud.tables import devices
from wire.ports import MILLISECOND, SECOND, Clock, Inbound

log = logging.getLogger(__name__)

MAX_BATCH = 200
"""A larger one costs each message hardly less, and the next change waits longer for it."""
CHANNELS = ("reported", "telemetry")
PRESENCE = "status"
PATIENT = "/telemetry"
LINGER_NS = 10 * SECOND
"""How long telemetry waits for more of it. Its device sends it again after 15 s, and writes it to flash after 30."""
HURRY_NS = SECOND
"""How long it waits while a rollout is under way, or once there is more than a FEW."""
FEW = 16
"""Messages that may be long without their acknowledgement: brokers stop sending at 20, where nobody has set more."""
GATHER_NS = 50 * MILLISECOND
"""How long everything else does."""
CROWD = 4
"""After so many messages at a time more are about to come."""
CROWD_NS = 250 * MILLISECOND
"""How long everything else waits then, until there are a FEW."""
PATIENCE_NS = SECOND
"""Between two tries of a batch that the database could not take."""

_HEARD_FIRST = select(func.min(devices.c.seen_ns)).where(devices.c.online)


class Inbox:
    """Takes what devices say, in order of arrival."""

    def __init__(self, store: Store, outbox: Outbox, clock: Clock, door: Door, *, shared: bool = False) -> None:
        self._store = store
        self._outbox = outbox
        self._clock = clock
        self._door = door
        self._shared = shared
        self._queue: deque[Inbound] = deque()
        self._patient: set[str] = set()
        self._due = asyncio.Event()
        self._alarm = Alarm(clock, self._due.set)
        self._heard_ns = 0
        self._hurried = True
        self._crowded = False

    def hurry(self, hurried: bool) -> None:
        """Does somebody wait for what devices measure, from now on?"""
        if hurried and not self._hurried and self._queue:
            self._due.set()
        self._hurried = hurried

    def filters(self) -> tuple[str, ...]:
        """What every hub subscribes to."""
        topics = self._door.topics
        return (*(topics.all_up(channel) for channel in CHANNELS), f"{topics.root}/enrol/up/+")

    def presence(self) -> tuple[str, ...]:
        """What the leading hub subscribes to beside it: who is there, as the broker retains it."""
        return (self._door.topics.all_up(PRESENCE),)

    def is_presence(self, message: Inbound) -> bool:
        """Does it say whether a device is there?"""
        return message.topic.endswith(f"/{PRESENCE}")

    async def run(self) -> None:
        """Take messages for ever."""
        while True:
            await self._due.wait()
            self._crowded = len(self._queue) >= CROWD
            while self._queue:
                await self._take([self._queue.popleft() for _ in range(min(MAX_BATCH, len(self._queue)))])
            self._nobody_waits()

    def _nobody_waits(self) -> None:
        self._due.clear()
        self._patient.clear()
        self._alarm.cancel()

    def take(self, message: Inbound) -> None:
        """The link's callback: a message has come. Is there reason to take what waits at once?"""
        self._queue.append(message)
        topic = message.topic
        patient = topic.endswith(PATIENT) and not self._shared  # another hub may have its successor
        if topic in self._patient or len(self._queue) >= MAX_BATCH:
            self._due.set()
            return
        if patient:
            self._patient.add(topic)
        self._alarm.within(self._linger_ns() if patient else self._gather_ns())

    def _linger_ns(self) -> int:
        return HURRY_NS if self._hurried or len(self._queue) >= FEW else LINGER_NS

    def _gather_ns(self) -> int:
        return CROWD_NS if self._crowded and len(self._queue) < FEW else GATHER_NS

    async def presume_all_gone(self, store: Store) -> None:
        """Nobody is known to be there until they say so (again)."""
        gone = update(devices).where(devices.c.online).values(online=False, gone_ns=self._clock.now_ns())
        await store.write(lambda conn: conn.execute(gone))

    async def presume_silent_gone(self, store: Store, patience_ns: int) -> None:
        """A will can get lost with its broker: devices heard of longer ago than `patience_ns` count as gone."""
        before_ns = self._clock.now_ns() - patience_ns
        if before_ns <= self._heard_ns:  # nobody can be silent for so long yet
            return
        heard_ns = await store.read(lambda conn: conn.execute(_HEARD_FIRST).scalar())
        if heard_ns is not None and heard_ns < before_ns:
            silent = devices.c.online & (devices.c.seen_ns < before_ns)
            gone = update(devices).where(silent).values(online=False, gone_ns=devices.c.seen_ns)
            await store.write(lambda conn: conn.execute(gone))
        self._heard_ns = before_ns if heard_ns is None else max(heard_ns, before_ns)

    async def _take(self, batch: list[Inbound]) -> None:
        received = [Received(message.topic, message.payload) for message in batch]
        call = functools.partial(apply, batch=received, now_ns=self._clock.now_ns(), door=self._door)
        try:
            effects = await self._committed(call)
        except Exception:
            if len(batch) == 1:
                (message,) = batch
                log.exception("dropped a message on %s that the hub cannot handle", message.topic)
                message.ack()
                return
            for one in batch:  # one of them is our own defect: it must not hold up the others
                await self._take([one])
            return
        for message in batch:
            message.ack()
        self._outbox.post(effects)

    async def _committed(self, call: Callable[[Connection], Effects]) -> Effects:
        """However long the database is away: what is not durable is not acknowledged, and comes again if we end."""
        while True:
            try:
                return await self._store.write(call)
            except StoreError as error:
                log.warning("what devices say has to wait: %s", error)
                await self._clock.sleep(PATIENCE_NS)
