"""Old telemetry: points become hours, once each, and hours end; by the hub itself, in small steps."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import func, select

from bench.postgres_server import PostgresServer, postgres_server
from cloud.service import retention
from cloud.service.retention import AT_ONCE, HOUR_NS
from cloud.tables import devices, telemetry_hours, telemetry_points
from tests.scenes.hub_steps import a_hub, counters, fleet, telemetry
from tests.servers.postgres import NEEDS_POSTGRES
from tests.worlds.hub_world import ROOT, World
from wire.codec import decode, encode
from wire.messages import Telemetry

DAY_NS = 24 * HOUR_NS


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A running PostgreSQL."""
    with postgres_server() as one:
        yield one


def told(*numbers: int) -> list[tuple[str, bytes]]:
    """Messages of the only device: after number n it has predicted n times."""
    return [(ROOT.up("p00", "telemetry"), telemetry(number, number, number)) for number in numbers]


async def hours(world: World) -> list[tuple[int, int, int]]:
    """(hour, points, predictions) of what was rolled up."""
    table = telemetry_hours.c
    query = select(table.hour_ns, table.points, table.predictions).order_by(table.hour_ns)
    rows = await world.store.read(lambda conn: conn.execute(query).all())
    return [(row.hour_ns // HOUR_NS, row.points, row.predictions) for row in rows]


async def left(world: World) -> int:
    """Points that are there as they came."""
    count = select(func.count()).select_from(telemetry_points)
    return await world.store.read(lambda conn: conn.scalar(count)) or 0


async def roll_up(world: World, before_ns: int) -> int:
    """One step."""
    return await world.store.write(lambda conn: retention.roll_up(conn, before_ns))


async def course(world: World) -> None:
    """Three hours of telemetry, rolled up in two goes."""
    await fleet(world, 1)
    for hour, numbers in enumerate(((1, 2, 3), (4, 5), (6,))):
        world.clock.ns = hour * HOUR_NS + 5
        await world.receive(*told(*numbers))
    assert await roll_up(world, HOUR_NS) == 3
    assert await hours(world) == [(0, 3, 3)]
    assert await roll_up(world, 2 * HOUR_NS) == 2
    assert await roll_up(world, 2 * HOUR_NS) == 0
    assert await hours(world) == [(0, 3, 3), (1, 2, 5)]
    assert await left(world) == 1
    assert (await counters(world, "p00")).predictions == 6
    assert await world.store.write(lambda conn: retention.forget(conn, HOUR_NS)) == 1
    assert await hours(world) == [(1, 2, 5)]


def run(world: World, scenario: Any) -> None:
    """Run a scenario in this world."""

    async def inside() -> None:
        async with world:
            await scenario(world)

    asyncio.run(inside())


def test_points_become_hours_once_each(tmp_path: Path) -> None:
    """The last counters of the hour and the number of points; what is newest stays as it came."""
    run(World(tmp_path), course)


def test_nothing_is_kept_of_variants_that_nobody_knows(tmp_path: Path) -> None:
    """A device may count whatever it likes: the point goes, and leaves no hour behind."""

    async def scenario(world: World) -> None:
        await fleet(world, 1)
        unknown = msgspec.structs.replace(decode(telemetry(1, 1, 1), Telemetry).stats[0], variant="made-up")
        known = decode(telemetry(1, 2, 2), Telemetry).stats[0]
        await world.receive((ROOT.up("p00", "telemetry"), encode(Telemetry(seq=1, stats=(unknown, known)))))
        assert await roll_up(world, HOUR_NS) == 1
        assert await hours(world) == [(0, 1, 2)]
        assert await left(world) == 0

    run(World(tmp_path), scenario)


@NEEDS_POSTGRES
def test_points_become_hours_on_postgresql_too(tmp_path: Path, server: PostgresServer) -> None:
    """The same course."""
    run(World(tmp_path, database=server.database()), course)


def test_an_hour_that_is_rolled_up_in_parts_is_the_same_hour(tmp_path: Path) -> None:
    """No step takes more than it may, and none counts a point twice."""

    async def scenario(world: World) -> None:
        await fleet(world, 1)
        await world.receive(*told(*range(1, AT_ONCE + 502)))
        world.clock.ns += 10
        await world.receive(*told(AT_ONCE + 502))
        assert [await roll_up(world, world.clock.ns) for _ in range(3)] == [AT_ONCE, 501, 0]
        assert await hours(world) == [(0, AT_ONCE + 501, AT_ONCE + 501)]
        assert await left(world) == 1

    run(World(tmp_path), scenario)


def test_the_hub_does_it_by_itself(tmp_path: Path) -> None:
    """A week after they came, and a year after that. The files of a job that has ended go after a month."""

    async def scenario(world: World) -> None:
        await fleet(world, 1)
        await world.receive(*told(1, 2, 3))
        one = a_hub(world, [])
        working = asyncio.create_task(one.run())
        while not await world.store.read(lambda conn: one._parts.leadership.leads):
            await asyncio.sleep(0)
        seen = []
        for days in (6, 2, 300, 60):
            world.clock.ns += days * DAY_NS
            await one._rounds._prune()
            seen.append((await left(world), len(await hours(world)), len(world.launcher.discarded)))
        assert seen == [(3, 0, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1)]
        assert await world.store.read(lambda conn: conn.scalar(select(devices.c.telemetry_seq))) == 3
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)

    run(World(tmp_path), scenario)
