"""Several hubs, one lead: pauses, kills and lost databases in virtual time, and what a hub does that was deposed."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import pytest
from sqlalchemy import Connection, insert, select

from cloud.errors import StoreError
from cloud.service.leadership import DeposedError, Leadership, LeadersLink
from cloud.tables import audit, leadership
from simulator.core.clock import VirtualClock
from simulator.core.loop import Process, VirtualLoop
from simulator.core.rng import Rng
from simulator.fakes.store import MemoryStore
from wire.ports import SECOND, LinkError, Timer

T = TypeVar("T")
LEASE_S = 10.0
STEP_NS = 2 * SECOND


@dataclass
class PausableHost:
    """Clock and store of one machine, which can stand still at any await and does not notice."""

    clock: VirtualClock
    store: MemoryStore
    going: asyncio.Event = field(default_factory=asyncio.Event)
    database_is_away: bool = False

    def __post_init__(self) -> None:
        self.going.set()
        self.now_ns, self.monotonic_ns = self.clock.now_ns, self.clock.monotonic_ns

    async def sleep(self, ns: int) -> None:
        """It may take longer than it was to."""
        await self.clock.sleep(ns)
        await self.going.wait()

    def call_later(self, ns: int, call: Callable[[], None]) -> Timer:
        """As the clock does."""
        return self.clock.call_later(ns, call)

    async def write(self, call: Callable[[Connection], T]) -> T:
        """A pause before or after it; or no database."""
        await self.going.wait()
        if self.database_is_away:
            raise StoreError("no database")
        result = await self.store.write(call)
        await self.going.wait()
        return result

    read = write


class Replica:
    """A hub that, while it leads, works in steps: reads, thinks for a while, writes, publishes."""

    def __init__(self, name: str, clock: VirtualClock, store: MemoryStore, everybody: "list[Replica]") -> None:
        self.name = name
        self.host = PausableHost(clock, store)
        self.leadership = Leadership(self.host, self.host, name, lease_s=LEASE_S, alone=False)
        self.link = LeadersLink(self, self.leadership)
        self.everybody = everybody
        self.published = 0
        self.process = Process(name)
        self.fenced = True

    def start(self) -> None:
        """From nothing, as a process does."""
        self.leadership = Leadership(self.host, self.host, self.name, lease_s=LEASE_S, alone=False)
        self.link = LeadersLink(self, self.leadership)
        self.process = Process(self.name)
        self.process.run(lambda: asyncio.ensure_future(self.leadership.run(self.work)))

    async def work(self) -> None:
        """For ever; a step that fails is left out."""
        while True:
            try:
                await self.step()
            except (StoreError, LinkError):
                await self.host.sleep(STEP_NS)

    async def step(self) -> None:
        """The next number, once."""
        write = self.leadership.write if self.fenced else self.host.write
        await write(self.take_number)
        await self.host.sleep(STEP_NS)
        await self.link.publish("wave", b"", retain=True)

    def take_number(self, conn: Connection) -> None:
        """Who did it, and in which term the database was then."""
        lead = conn.execute(select(leadership)).one()
        entry = {"at_ns": lead.term, "actor": self.name, "action": "tick", "subject": lead.holder, "detail": {}}
        conn.execute(insert(audit).values(entry))

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """What reaches the broker: nobody else may believe that he leads."""
        self.published += 1
        assert [one.name for one in self.everybody if one.leadership.leads] == [self.name]


async def trouble(rng: random.Random, loop: VirtualLoop, replicas: list[Replica], clock: VirtualClock) -> None:
    """Pauses, kills and lost databases for a while."""
    for _ in range(30):
        one = rng.choice(replicas)
        lasting_ns = int(rng.uniform(0.0, 3 * LEASE_S) * SECOND)
        match rng.choice(("pause", "pause", "kill", "database")):
            case "pause":
                one.host.going.clear()
                await clock.sleep(lasting_ns)
                one.host.going.set()
            case "kill":
                loop.kill(one.process)
                await clock.sleep(lasting_ns)
                one.start()
            case _:
                one.host.database_is_away = True
                await clock.sleep(lasting_ns)
                one.host.database_is_away = False
        await clock.sleep(int(rng.uniform(0.0, LEASE_S) * SECOND))


def simulate(seed: int, *, fenced: bool = True) -> tuple[list[tuple[int, str, str]], list[Replica]]:
    """What was written, in order of the commits: (term, who, who led)."""
    loop = VirtualLoop(Rng(seed, "loop"))
    clock, store = VirtualClock(loop), MemoryStore()
    replicas: list[Replica] = []
    replicas += [Replica(name, clock, store, replicas) for name in "abc"]

    async def main() -> None:
        for one in replicas:
            one.fenced = fenced
            one.start()
        await trouble(random.Random(seed), loop, replicas, clock)
        before = [one.published for one in replicas]
        await clock.sleep(int(4 * LEASE_S * SECOND))
        after = [one.published for one in replicas]
        assert sum(new > old for new, old in zip(after, before, strict=True)) == 1, "one leads when all is quiet"
        for one in replicas:
            loop.kill(one.process)

    loop.run(main())
    query = select(audit.c.at_ns, audit.c.actor, audit.c.subject).order_by(audit.c.id)
    return store.now(lambda conn: [tuple(row) for row in conn.execute(query)]), replicas


@pytest.mark.parametrize("seed", range(3))
def test_whatever_stops_and_comes_back_only_the_holder_of_the_term_writes(seed: int) -> None:
    """Terms never fall, each has one holder, and whoever wrote was the holder then."""
    rows, replicas = simulate(seed)
    assert len(rows) > 100
    assert len({term for term, _, _ in rows}) > 5
    assert [term for term, _, _ in rows] == sorted(term for term, _, _ in rows)
    assert [row for row in rows if row[1] != row[2]] == []
    assert sum(one.published for one in replicas) > 80


def test_without_the_fence_a_paused_leader_writes_into_the_term_of_another() -> None:
    """So the test above can fail, and leases alone would not do."""
    assert any(actor != holder for seed in range(3) for _, actor, holder in simulate(seed, fenced=False)[0])


def test_a_hub_that_goes_hands_the_lead_over_at_once() -> None:
    """Stopped in order, it gives up its lease; nobody waits for its end."""
    loop = VirtualLoop(Rng(1, "loop"))
    clock, store = VirtualClock(loop), MemoryStore()
    replicas: list[Replica] = []
    replicas += [Replica(name, clock, store, replicas) for name in "ab"]

    async def main() -> None:
        first, second = replicas
        leading = asyncio.ensure_future(first.leadership.run(first.work))
        await clock.sleep(SECOND)
        assert first.leadership.leads
        other = asyncio.ensure_future(second.leadership.run(second.work))
        await clock.sleep(60 * SECOND)
        assert not second.leadership.leads
        leading.cancel()
        await clock.sleep(int(LEASE_S * SECOND) // 2)
        assert second.leadership.leads
        with pytest.raises(DeposedError):
            await first.leadership.write(first.take_number)
        other.cancel()
        await asyncio.gather(leading, other, return_exceptions=True)

    loop.run(main())


def test_work_that_finds_no_database_begins_anew_and_a_defect_is_not_hidden() -> None:
    """Whatever task of the leader found it first; anything else ends the hub, for its supervisor to see."""
    loop = VirtualLoop(Rng(1, "loop"))
    clock, store = VirtualClock(loop), MemoryStore()
    troubles: list[Exception] = [StoreError("no database"), DeposedError("another hub leads"), KeyError("a defect")]
    terms: list[int] = []

    async def fail() -> None:
        raise troubles.pop(0)

    async def work() -> None:
        terms.append(await store.read(lambda conn: conn.scalars(select(leadership.c.term)).one()))
        async with asyncio.TaskGroup() as group:
            group.create_task(clock.sleep(60 * SECOND))
            group.create_task(fail())

    async def main() -> None:
        one = Leadership(store, clock, "a", lease_s=LEASE_S, alone=False)
        with pytest.raises(ExceptionGroup) as caught:
            await one.run(work)
        assert caught.group_contains(KeyError)

    loop.run(main())
    assert terms == [1, 2, 3]
