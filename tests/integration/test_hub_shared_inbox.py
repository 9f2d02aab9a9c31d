"""Two hubs that get the messages of one device in turn take all of them, without the device sending any again."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select

from cloud.service.inbox import Inbox
from cloud.tables import telemetry_points
from tests.hub_steps import fleet, hub, telemetry
from tests.hub_world import ROOT, World, inbound
from wire.adapters.system import SystemClock
from wire.codec import decode, encode
from wire.messages import Telemetry

MESSAGES = 40


def message(seq: int) -> bytes:
    """Sent behind the one before it."""
    told = decode(telemetry(seq, seq, seq), Telemetry)
    return encode(Telemetry(seq=seq, after=seq - 1, stats=told.stats))


@pytest.mark.parametrize("shared", [True, False])
def test_messages_that_are_dealt_out_in_turn_are_all_taken(tmp_path: Path, shared: bool) -> None:
    """What is early is kept until its predecessor comes, whichever hub gets that."""

    async def scenario(world: World) -> None:
        await fleet(world, 1)
        inboxes = [Inbox(world.store, world.outbox, SystemClock(), world.door, shared=shared) for _ in range(2)]
        running = [asyncio.create_task(one.run()) for one in inboxes]
        acked: list[str] = []
        for seq in range(1, MESSAGES + 1):
            inboxes[seq % 2].take(inbound(ROOT.up("p00", "telemetry"), message(seq), acked))
        async with asyncio.timeout(20):
            while len(acked) < MESSAGES:
                await asyncio.sleep(0.005)
        for task in running:
            task.cancel()
        query = select(telemetry_points.c.seq).order_by(telemetry_points.c.seq)
        taken = await world.store.read(lambda conn: conn.scalars(query).all())
        assert taken == list(range(1, MESSAGES + 1))

    hub(tmp_path, scenario)
