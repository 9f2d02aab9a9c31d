"""Devices that say nothing but that they are there: written for all together, and never against a newer word."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, select

from cloud.errors import StoreError
from cloud.service import revocation
from cloud.service.heartbeats import MAX_BATCH, Heartbeats, note
from cloud.service.history import ABSENT
from cloud.tables import device_events, devices
from tests.scenes.hub_steps import hub
from tests.worlds.hub_world import ROOT, World, inbound
from wire.ports import SECOND

T = TypeVar("T")


class Counted:
    """A store that counts writes, and is away for the first few."""

    def __init__(self, world: World, away: int = 0) -> None:
        self._world = world
        self._away = away
        self.writes = 0
        self.ended = asyncio.Semaphore(0)

    async def write(self, call: Callable[[Connection], T]) -> T:
        """As the store does, when it is there."""
        self.writes += 1
        try:
            if self.writes <= self._away:
                raise StoreError("the database server is gone")
            return await self._world.store.write(call)
        finally:
            self.ended.release()

    read: Any = None


@asynccontextmanager
async def listening(world: World, store: Counted) -> AsyncIterator[Heartbeats]:
    """At work."""
    heartbeats = Heartbeats(store, world.clock, ROOT)
    task = asyncio.create_task(heartbeats.run())
    try:
        yield heartbeats
    finally:
        task.cancel()


async def minute(world: World, store: Counted, writes: int = 1) -> None:
    """It passes, and what is due is written in so many turns."""
    world.clock.alarms.pop()()
    async with asyncio.timeout(5):
        for _ in range(writes):
            await store.ended.acquire()


async def known(world: World, name: str) -> tuple[bool, int | None, int | None]:
    """Is it online, when was it seen, since when is it gone?"""
    query = select(devices.c.online, devices.c.seen_ns, devices.c.gone_ns).where(devices.c.name == name)
    return tuple(await world.store.read(lambda conn: conn.execute(query).one()))


def beat(name: str, acked: list[str]) -> Any:
    """The message."""
    return inbound(ROOT.up(name, "heartbeat"), b"", acked)


def test_they_are_acknowledged_at_once_and_written_together(tmp_path: Path) -> None:
    """One transaction for all of a minute; other messages are nobody's here."""

    async def scenario(world: World) -> None:
        names, acked = [f"p{number:02}" for number in range(5)], list[str]()
        for name in names:
            await world.enrol(name)
        store = Counted(world)
        async with listening(world, store) as heartbeats:
            for name in (*names, *names):
                assert heartbeats.take(beat(name, acked))
                world.clock.ns += SECOND
            assert not heartbeats.take(inbound(ROOT.up("p00", "telemetry"), b"", acked))
            assert len(acked) == 10
            assert len(world.clock.alarms) == 1
            assert not (await known(world, "p00"))[0]
            heard_ns = world.clock.ns
            await minute(world, store)
        assert store.writes == 1
        for number, name in enumerate(names):
            assert await known(world, name) == (True, heard_ns - (5 - number) * SECOND, None)

    hub(tmp_path, scenario)


def test_a_last_will_that_came_after_it_is_the_newer_word(tmp_path: Path) -> None:
    """And so is a message: the time at which a device was seen never falls."""

    async def scenario(world: World) -> None:
        await world.enrol("p00")
        await world.enrol("p01")
        heard_ns = world.clock.ns
        world.clock.ns += 10 * SECOND
        await world.online("p00")
        await world.online("p00", online=False)
        await world.online("p01")
        gone, there = await known(world, "p00"), await known(world, "p01")
        await world.store.write(lambda conn: note(conn, {"p00": heard_ns, "p01": heard_ns}))
        assert (await known(world, "p00"), await known(world, "p01")) == (gone, there)

    hub(tmp_path, scenario)


def test_one_that_was_gone_is_back(tmp_path: Path) -> None:
    """Its absence is noted."""

    async def scenario(world: World) -> None:
        await world.enrol("p00")
        await world.online("p00")
        await world.online("p00", online=False)
        world.clock.ns += 3600 * SECOND
        await world.store.write(lambda conn: note(conn, {"p00": world.clock.ns}))
        assert await known(world, "p00") == (True, world.clock.ns, None)
        events = select(device_events.c.event).where(device_events.c.device == "p00")
        assert await world.store.read(lambda conn: conn.scalars(events).all()) == [ABSENT]

    hub(tmp_path, scenario)


def test_nobody_listens_to_strangers_or_to_the_revoked(tmp_path: Path) -> None:
    """Whatever the broker lets through."""

    async def scenario(world: World) -> None:
        await world.enrol("p00")
        await world.change(lambda conn, now_ns: revocation.revoke(conn, "p00", "stolen", ("test", now_ns), ROOT))
        before = await known(world, "p00")
        await world.store.write(lambda conn: note(conn, {"p00": world.clock.ns + SECOND, "stranger": 1}))
        assert await known(world, "p00") == before

    hub(tmp_path, scenario)


def test_while_the_database_is_away_they_wait(tmp_path: Path) -> None:
    """The newest of each device counts; many are written in turns, so that nobody waits long for the database."""

    async def scenario(world: World) -> None:
        await world.enrol("p00")
        store, acked = Counted(world, away=2), list[str]()
        async with listening(world, store) as heartbeats:
            for number in range(MAX_BATCH):
                heartbeats.take(beat(f"q{number}", acked))
            heartbeats.take(beat("p00", acked))
            await minute(world, store, 2)
            world.clock.ns += SECOND
            heartbeats.take(beat("p00", acked))
            await minute(world, store, 2)
        assert store.writes == 4
        assert await known(world, "p00") == (True, world.clock.ns, None)

    hub(tmp_path, scenario)
