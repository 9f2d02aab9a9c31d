"""Two hubs that get the messages of one device in turn take all of them, without the device sending any again."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select

from bench.postgres_server import postgres_server
from cloud.service.inbox import Inbox
from cloud.tables import devices, telemetry_points
from tests.scenes.hub_steps import fleet, hub, telemetry
from tests.servers.postgres import NEEDS_POSTGRES
from tests.worlds.hub_world import ROOT, World, inbound
from wire.adapters.system import SystemClock
from wire.codec import decode, encode
from wire.messages import Telemetry

MESSAGES = 40


def message(seq: int) -> bytes:
    """Sent behind the one before it."""
    told = decode(telemetry(seq, seq, seq), Telemetry)
    return encode(Telemetry(seq=seq, after=seq - 1, stats=told.stats))


async def deal_out(worlds: tuple[World, World], *, shared: bool) -> None:
    """Each inbox gets every other message, and acknowledges it."""
    inboxes = [Inbox(one.store, one.outbox, SystemClock(), one.door, shared=shared) for one in worlds]
    running = [asyncio.create_task(one.run()) for one in inboxes]
    acked: list[str] = []
    for seq in range(1, MESSAGES + 1):
        inboxes[seq % 2].take(inbound(ROOT.up("p00", "telemetry"), message(seq), acked))
    async with asyncio.timeout(20):
        while len(acked) < MESSAGES:
            await asyncio.sleep(0.005)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def assert_all_taken(world: World) -> None:
    """Every message once, and the mark at the last."""
    query = select(telemetry_points.c.seq).order_by(telemetry_points.c.seq)
    taken = await world.store.read(lambda conn: conn.scalars(query).all())
    assert taken == list(range(1, MESSAGES + 1))
    mark = select(devices.c.telemetry_seq, devices.c.telemetry_ahead).where(devices.c.name == "p00")
    assert tuple(await world.store.read(lambda conn: conn.execute(mark).one())) == (MESSAGES, 0)


@pytest.mark.parametrize("shared", [True, False])
def test_messages_that_are_dealt_out_in_turn_are_all_taken(tmp_path: Path, shared: bool) -> None:
    """What is early is kept until its predecessor comes, whichever inbox gets that."""

    async def scenario(world: World) -> None:
        await fleet(world, 1)
        await deal_out((world, world), shared=shared)
        await assert_all_taken(world)

    hub(tmp_path, scenario)


@NEEDS_POSTGRES
def test_hubs_that_write_at_the_same_time_leave_no_gap_that_nobody_closes(tmp_path: Path) -> None:
    """Each of them sees what the other one keeps, or is run again."""

    async def scenario(database: str) -> None:
        async with World(tmp_path / "a", database=database) as one:
            await one.enrol("p00")
            async with World(tmp_path / "b", database=database, rooted=False) as other:
                await deal_out((one, other), shared=True)
            await assert_all_taken(one)

    with postgres_server() as server:
        asyncio.run(scenario(server.database()))
