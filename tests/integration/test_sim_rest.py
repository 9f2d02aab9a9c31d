"""What a fleet at rest costs its hub: its own messages, and hardly anything beside them."""

from typing import Final

from sqlalchemy import func, select

from cloud.core.rollout import Plan, Wave
from cloud.service.rollouts import NewRollout
from cloud.tables import devices
from simulator.core.network import Quality
from simulator.fleet import Fleet, Size
from simulator.version import random_files
from simulator.world import World
from wire.ports import SECOND

MODEL, SLOT = "simulated", "main"
HOUR: Final = 3600 * SECOND
TELEMETRY: Final = 3 * 4
OF_THE_HUB: Final = 50
"""Looks, signs of life and pruning: 35 transactions were counted in all. A timer of one minute makes 60 more."""
EVENTS: Final = 1_500
"""Turns of the loop: 644 were counted. A timer of one second makes 3,600 more."""


def test_an_hour_at_rest_is_little_more_than_its_signs_of_life() -> None:
    """After a rollout has ended, and with nobody doing anything. Everybody is known to be there all the same."""
    fleet = Fleet(World(1))

    async def scene() -> tuple[int, int]:
        world, hub = fleet.world, fleet.hub
        await fleet.start(Size(3, Quality(), enrolled=True))
        await world.clock.sleep(10 * SECOND)
        await hub.publish_version(MODEL, random_files(world.rng.child("files"), 5_000))
        await hub.roll_out(NewRollout("r1", MODEL, 1, SLOT, {}, None, Plan(waves=(Wave(percent=100),))))
        await world.clock.sleep(2 * HOUR)
        before = hub.store.transactions, world.loop.events
        await world.clock.sleep(HOUR)
        assert hub.look(lambda conn: conn.scalar(select(func.count()).where(devices.c.online))) == 3
        return hub.store.transactions - before[0], world.loop.events - before[1]

    transactions, events = fleet.world.loop.run(scene())
    assert TELEMETRY // 2 < transactions < TELEMETRY + OF_THE_HUB
    assert events < EVENTS
