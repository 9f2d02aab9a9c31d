"""Leading: what one hub only may do, it does while it leads, and every one of its writes proves in the same transaction
that it still does.

A leader's write begins by changing the row of its term. It finds that row gone when another hub has taken over, and
then nothing happens; and as long as it holds the row, until its commit, nobody can take over. So a hub that was paused
for however long, and believes that it leads, does nothing. Its retained publishes are held back too: `leads` is false
from the end of its own lease on, until the database has confirmed it again.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy import Connection, bindparam, insert, select, update

from cloud.core.leadership import NOBODY, Lead, Watch, is_vacant, watch
from cloud.errors import StoreError
from cloud.ports import Publisher, Store
from cloud.tables import leadership
from wire.ports import SECOND, Clock, LinkError

log = logging.getLogger(__name__)
T = TypeVar("T")

NAME = "leader"
SIGNS_PER_LEASE = 3
LEASES_ALONE = 90
"""A hub without others gives a sign in so many of the pauses: nobody waits for it, and every write proves as much."""
_MINE = (leadership.c.name == NAME) & (leadership.c.term == bindparam("in_term"))
_ALIVE = update(leadership).where(_MINE).values(beat=leadership.c.beat + 1)


class DeposedError(StoreError):
    """This hub does not lead (any more): nothing was changed."""


class Leadership:
    """The `cloud.ports.Store` of those services that work on the leading hub only."""

    def __init__(self, store: Store, clock: Clock, holder: str, *, lease_s: float, alone: bool) -> None:
        self._store = store
        self._clock = clock
        self._holder = holder
        self._lease_ns = int(lease_s * SECOND)
        self._alone = alone
        self._term: int | None = None
        self._until_ns = 0

    @property
    def leads(self) -> bool:
        """Is it certain that no other hub leads? Without others (`alone`) a lease does not run out."""
        return self._term is not None and (self._alone or self._clock.monotonic_ns() < self._until_ns)

    @property
    def in_office(self) -> bool:
        """Has it taken the lead, as far as it knows? Others may have taken over since its lease ended."""
        return self._term is not None

    async def write(self, call: Callable[[Connection], T]) -> T:
        """Run `call` in a transaction of this hub's term. Raises DeposedError, StoreError."""
        term, began_ns = self._term, self._clock.monotonic_ns()
        if term is None:
            raise DeposedError("this hub does not lead")
        result = await self._store.write(lambda conn: _fenced(conn, term, call))
        self._extend(term, began_ns)
        return result

    async def read(self, call: Callable[[Connection], T]) -> T:
        """Run `call` on a snapshot, leading or not."""
        return await self._store.read(call)

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Lead whenever nobody else does: `work` runs for as long as this hub leads, and is cancelled then."""
        while True:
            await self._gain()
            working = asyncio.ensure_future(work())
            keeping = asyncio.create_task(self._keep(), name="lease")
            try:
                await asyncio.wait({working, keeping}, return_when=asyncio.FIRST_COMPLETED)
                if working.done():
                    working.result()  # it failed: so do we
            except* StoreError as trouble:  # of any of the tasks inside: begin anew
                log.warning("this hub (%s) cannot lead now: %s", self._holder, trouble.exceptions)
            finally:
                for task in (working, keeping):
                    task.cancel()
                await asyncio.gather(working, keeping, return_exceptions=True)
                await self._resign()

    async def _gain(self) -> None:
        watched: Watch | None = None
        while self._term is None:
            with contextlib.suppress(StoreError):
                watched = watch(watched, await self._store.read(_lead), self._clock.monotonic_ns())
                await self._take_if_vacant(watched)
            if self._term is None:
                await self._clock.sleep(self._lease_ns // SIGNS_PER_LEASE)
        log.info("this hub (%s) leads, term %d", self._holder, self._term)

    async def _take_if_vacant(self, watched: Watch) -> None:
        """Nobody waits for a lease to end that only this hub itself can have had."""
        patience_ns, began_ns = 0 if self._alone else self._lease_ns, self._clock.monotonic_ns()
        if is_vacant(watched, patience_ns, began_ns):
            self._term = await self._store.write(lambda conn: _take(conn, watched.lead, self._holder))
            self._extend(self._term, began_ns)

    async def _keep(self) -> None:
        """Give signs of life; returns when another hub has taken over."""
        pause_ns = self._lease_ns // SIGNS_PER_LEASE * (LEASES_ALONE if self._alone else 1)
        while True:
            await self._clock.sleep(pause_ns)
            try:
                await self.write(lambda conn: None)
            except DeposedError:
                log.warning("this hub (%s) leads no more: another one has taken over", self._holder)
                return
            except StoreError as error:
                log.warning("no sign of life could be given: %s", error)

    async def _resign(self) -> None:
        """Another hub need not wait for the end of the lease."""
        term, self._term = self._term, None
        if term is not None:
            with contextlib.suppress(StoreError):
                await self._store.write(lambda conn: _give_up(conn, term))

    def _extend(self, term: int | None, began_ns: int) -> None:
        if term is not None and term == self._term:
            self._until_ns = max(self._until_ns, began_ns + self._lease_ns)


class LeadersLink:
    """Publishes for services of the leading hub, and refuses to as soon as it may not be the leader any more."""

    def __init__(self, link: Publisher, leadership: Leadership) -> None:
        self._link = link
        self._leadership = leadership

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Return once the broker has acknowledged. Raises LinkError."""
        if not self._leadership.leads:
            raise LinkError("this hub may not lead any more")
        await self._link.publish(topic, payload, retain=retain)


def _fenced(conn: Connection, term: int, call: Callable[[Connection], T]) -> T:
    if conn.execute(_ALIVE, {"in_term": term}).rowcount != 1:
        raise DeposedError(f"term {term} is over: another hub leads")
    return call(conn)


def _lead(conn: Connection) -> Lead:
    row = conn.execute(select(leadership).where(leadership.c.name == NAME)).one_or_none()
    return Lead(NOBODY, 0, 0) if row is None else Lead(row.holder, row.term, row.beat)


def _take(conn: Connection, seen: Lead, holder: str) -> int | None:
    """The new term, unless the row has changed since it was `seen`."""
    if _lead(conn) != seen:
        return None
    values = {"holder": holder, "term": seen.term + 1, "beat": 0}
    if seen.term == 0:
        conn.execute(insert(leadership).values(name=NAME, **values))
    else:
        conn.execute(update(leadership).where(leadership.c.name == NAME).values(values))
    return seen.term + 1


def _give_up(conn: Connection, term: int) -> None:
    mine = (leadership.c.name == NAME) & (leadership.c.term == term)
    conn.execute(update(leadership).where(mine).values(holder=NOBODY))
