"""Attacks that only the hub can notice: a class of a device's messages disappears, and nobody is to see it.

A small fleet of simulated devices, the real services on both sides, in virtual time.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

from sqlalchemy import select

from bench.attack_cases.attack import Attack, Outcome
from bench.replacing import replaced
from cloud.core.rollout import Plan, Wave
from cloud.service.rollouts import NewRollout, outcomes
from cloud.tables import members
from simulator.core.network import Quality
from simulator.core.rng import Rng
from simulator.fleet import Fleet, Size
from simulator.version import random_files
from simulator.world import World
from wire.messages import Outcome as Ended
from wire.ports import SECOND

DENIED = "deny install, partial bundle"
MODEL, VICTIM, ROLLOUT = "watch", "d00000", "r1"
JOINING_S, PLAN_S, PATIENCE_S = 40, 30, 70
"""Until the devices have joined; total time of an execution; what the hub may take to give it up."""


def dropping(channel: str) -> Callable[[], Outcome]:
    """The attacker sits on the broker and drops what the victim gets or says on `channel`."""

    def attempt() -> Outcome:
        world = World(3)

        async def play() -> Outcome:
            fleet = Fleet(world)
            await fleet.start(Size(2, Quality()))
            await world.clock.sleep(JOINING_S * SECOND)
            release = await fleet.hub.publish_version(MODEL, random_files(Rng(1), 100_000))
            _drop(world, channel)
            plan = Plan((Wave(percent=100),), total_timeout_s=PLAN_S)
            await fleet.hub.roll_out(NewRollout(ROLLOUT, MODEL, release.version, "main", {}, None, plan))
            await world.clock.sleep(PATIENCE_S * SECOND)
            return _seen(fleet)

        return world.loop.run(play())

    return attempt


def _drop(world: World, channel: str) -> None:
    take = world.broker.take

    def drop(client: str, topic: str, payload: bytes, retain: bool) -> None:
        if not (f"/{VICTIM}/" in topic and topic.endswith(f"/{channel}")):
            take(client, topic, payload, retain)

    world.broker.take = drop  # type: ignore[method-assign]


def _seen(fleet: Fleet) -> Outcome:
    """What the hub says of the victim, long after its time."""
    outcome = fleet.hub.look(lambda conn: conn.scalar(select(members.c.outcome).where(members.c.device == VICTIM)))
    return Outcome(outcome != Ended.TIMED_OUT, f"the hub says {outcome}")


def _without_deadlines() -> AbstractContextManager[None]:
    return replaced(outcomes, expire=lambda conn, row, names, now_ns: None)


GUARD, SAID = "the hub's deadline per device", "the hub says timed_out"
ATTACKS = (
    Attack("assignments dropped", DENIED, GUARD, SAID, dropping("desired"), _without_deadlines),
    Attack("reports dropped", DENIED, GUARD, SAID, dropping("reported"), _without_deadlines),
)
