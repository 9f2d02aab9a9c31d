"""Performs effects after their transaction, one after the other, and wakes the services that asked to be woken.

Nothing here is durable and nothing has to be: what gets lost is found missing by the timers and done again. Logins come
first, because the answer to an enrolment must not reach the device before the broker knows it. What is not retained is
a receipt or an answer: it is handed over, and nobody waits. What is retained does not wait for one another either, or a
broker far away would take a handful a second; that on one topic does, and keeps its order.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from sqlalchemy import Connection, select

from cloud.core.access import DEVICE, under
from cloud.errors import StoreError
from cloud.ports import BrokerControl, BrokerError, BrokerUser, Roster, Store
from cloud.service import certificates
from cloud.service.effects import NOTHING, Effects, Publish, Wake, wake
from cloud.tables import ENROLLED, devices
from wire.ports import SECOND, Clock, Link, LinkError
from wire.topics import Topics

log = logging.getLogger(__name__)
T = TypeVar("T")

TELL_AGAIN_NS = 2 * SECOND
AT_ONCE = 50
"""Publishes that wait for their acknowledgements together."""
Condition = Callable[[], bool]


def _always() -> bool:
    return True


class Outbox:
    """The one place from which the hub's services speak to the broker."""

    def __init__(self, store: Store, link: Link, control: BrokerControl, topics: Topics, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._link = link
        self._control = control
        self._topics = topics
        self._queue: asyncio.Queue[tuple[Effects, Condition]] = asyncio.Queue()
        self._bells = {service: asyncio.Event() for service in Wake}
        self.own_users: Mapping[str, BrokerUser] = {}
        """Logins of the hub's own programs."""

    async def change(self, call: Callable[[Connection], Effects]) -> None:
        """Commit a change and post its effects."""
        self.post(await self._store.write(call) + wake(Wake.LOOK))

    def post(self, effects: Effects, only_while: Condition = _always) -> None:
        """Perform `effects` soon; publish only while that holds, looked at before each."""
        if effects.wakes:
            self._bells[Wake.LOOK].set()
        if effects != NOTHING:
            self._queue.put_nowait((effects, only_while))

    async def woken(self, service: Wake) -> None:
        """Wait until somebody wakes `service`."""
        await self._bells[service].wait()
        self._bells[service].clear()

    def quiet(self, service: Wake) -> None:
        """Nobody has to wake `service` again for what has been committed by now."""
        self._bells[service].clear()

    async def run(self) -> None:
        """Perform what is posted, for ever."""
        while True:
            effects, only_while = await self._queue.get()
            try:
                await self._perform(effects, only_while)
            except LinkError as error:
                log.info("not published, will be repeated: %s", error)
            except StoreError as error:
                log.warning("not published, will be repeated: %s", error)
            except BrokerError as error:
                log.warning("the broker does not know who may come in, it will be told again: %s", error)
                self._clock.call_later(TELL_AGAIN_NS, lambda: self.post(wake(Wake.USERS)))

    async def users(self) -> None:
        """Tell the broker who may come in. Raises BrokerError."""
        now_ns = self._clock.now_ns()
        roster = await self._store.read(lambda conn: _roster(conn, self._topics.root, now_ns))
        users = {**roster.users, **self.own_users}
        await self._control.admit(dataclasses.replace(roster, users=users))

    async def _perform(self, effects: Effects, only_while: Condition) -> None:
        if Wake.USERS in effects.wakes:
            await self.users()
        for service in sorted(effects.wakes):
            self._bells[service].set()
        for one in effects.publishes:
            if not one.retain and only_while():
                self._link.send(one.topic, one.payload)
        for some in _apart(one for one in effects.publishes if one.retain):
            outcomes = await asyncio.gather(*(self._publish(one, only_while) for one in some), return_exceptions=True)
            for error in filter(None, outcomes):
                raise error

    async def _publish(self, one: Publish, only_while: Condition) -> None:
        if only_while():
            await self._link.publish(one.topic, one.payload, retain=True)


def _apart(publishes: Iterable[Publish]) -> Iterator[tuple[Publish, ...]]:
    """In their order, AT_ONCE at most, and no two on one topic."""
    some: dict[str, Publish] = {}
    for one in publishes:
        if one.topic in some or len(some) == AT_ONCE:
            yield tuple(some.values())
            some = {}
        some[one.topic] = one
    if some:
        yield tuple(some.values())


def _roster(conn: Connection, root: str, now_ns: int) -> Roster:
    """The devices' part of it."""
    publish, receive = under(root, DEVICE.publish), under(root, DEVICE.receive)
    known = select(devices.c.name, devices.c.verifier).where(ENROLLED, devices.c.verifier.is_not(None))
    rows = conn.execute(known.order_by(devices.c.name))
    users = {row.name: BrokerUser(row.name, row.verifier, publish, receive) for row in rows}
    gone = frozenset(conn.execute(select(devices.c.name).where(devices.c.revoked_ns.is_not(None))).scalars())
    revoked = certificates.revoked(conn, now_ns)
    return Roster(users, revoked, gone & {one.device for one in revoked})
