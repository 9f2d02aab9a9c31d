"""A fleet that has been there for a while: everybody enrolled and runs version 1. Most lives begin with a copy of it.

It is brought up once for each process and number of devices, without faults, by the programs themselves; what it leaves
is what a hub and devices find that are switched off and on again.
"""

import asyncio
from dataclasses import dataclass, replace
from functools import cache

from cloud.core.rollout import Plan, Wave
from cloud.errors import InvalidError
from cloud.service.parts import Intervals
from cloud.service.rollouts import NewRollout
from edge_agent.bootstrap import AgentPolicy
from simulator.core.loop import SimulationError
from simulator.core.network import Quality
from simulator.estate import FleetEstate
from simulator.fleet import Fleet, Size
from simulator.fuzz.learning import files_to_learn_with
from simulator.invariants.rest import outstanding
from simulator.version import random_files
from simulator.world import World
from wire.ports import MILLISECOND, SECOND
from wire.release import Release

MODEL, SLOT = "simulated", "main"
SIZE = Size(
    devices=1,
    quality=Quality(0.01, 0.02, delay_max_ns=60 * MILLISECOND),
    policy=AgentPolicy(telemetry_interval_s=20.0),
    boot_within_ns=3 * SECOND,
)
INTERVALS = Intervals(rollouts_s=4.0, republish_s=8.0)
FIRST_PLAN = Plan(waves=(Wave(percent=100),), step_timeout_s=40.0, total_timeout_s=150.0)
FIRST_ACT_AT_S = 8
LOOK_EVERY_S = 4
PATIENCE_S = 600
SEED = -1
"""No life has this one: what is random in a life must not repeat what was random before."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of the fleet, the release that it runs, and the `next` one, which nobody was told of yet."""

    estate: FleetEstate
    release: Release
    next: Release


@cache
def standing(devices: int, model_bytes: int, *, learns: bool = False) -> Standing:
    """So many devices, with a model of that size; do they learn with it?"""
    world = World(SEED)
    fleet, size = Fleet(world, INTERVALS), replace(SIZE, devices=devices, federated=learns)
    try:
        release, following = world.loop.run(_bring_up(fleet, size, model_bytes))
        return Standing(fleet.leave(), release, following)
    finally:
        fleet.hub.store.close()


async def _bring_up(fleet: Fleet, size: Size, model_bytes: int) -> tuple[Release, Release]:
    rng = fleet.world.rng
    fleet.hub.start()
    await asyncio.sleep(1)
    for _ in range(size.devices):
        await fleet.join(size)
    await asyncio.sleep(FIRST_ACT_AT_S)
    files = (files_to_learn_with if size.federated else random_files)(rng.child("version 1"), model_bytes)
    release = await fleet.hub.publish_version(MODEL, files)
    await _begin(fleet, NewRollout("r1", MODEL, release.version, SLOT, {}, None, FIRST_PLAN))
    await _rest(fleet)
    return release, await fleet.hub.publish_version(MODEL, random_files(rng.child("version 2"), model_bytes))


async def _begin(fleet: Fleet, rollout: NewRollout) -> None:
    for _ in range(PATIENCE_S // LOOK_EVERY_S):
        try:
            await fleet.hub.roll_out(rollout)
        except InvalidError:  # nobody has enrolled yet
            await asyncio.sleep(LOOK_EVERY_S)
        else:
            return
    raise SimulationError(f"nobody has enrolled after {PATIENCE_S} s without faults")


async def _rest(fleet: Fleet) -> None:
    for _ in range(PATIENCE_S // LOOK_EVERY_S):
        await asyncio.sleep(LOOK_EVERY_S)
        if not outstanding(fleet):
            return
    raise SimulationError(f"a fleet without faults is not at rest after {PATIENCE_S} s: {outstanding(fleet)[:4]}")
