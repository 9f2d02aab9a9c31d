"""A service that reaches for a real clock or real randomness ends the run; libraries and the rest of us may."""

import time
import types

import pytest

from simulator.core.guard import UnrepeatableError, guarded
from simulator.core.loop import SimulationError
from simulator.world import World

CODE = """
import os, random, time, uuid

def look():
    return CALL
"""


def module(name: str, call: str) -> types.ModuleType:
    """A module of that name whose `look` makes the call."""
    made = types.ModuleType(name)
    exec(CODE.replace("CALL", call), made.__dict__)  # noqa: S102 - the name of a module is what the guard goes by
    return made


@pytest.mark.parametrize(
    "call", ["time.time()", "time.monotonic_ns()", "random.random()", "uuid.uuid4()", "os.urandom(8)"]
)
@pytest.mark.parametrize("name", ["cloud.service.any", "edge_agent.core.any", "federated.core.any", "wire.any"])
def test_a_service_may_not(name: str, call: str) -> None:
    """Each of the forbidden calls, from each kind of package."""
    with guarded(), pytest.raises(UnrepeatableError, match="a port gives"):
        module(name, call).look()


@pytest.mark.parametrize("name", ["sqlalchemy.pool", "wire.adapters.system", "cloud.adapters.any"])
def test_others_may(name: str) -> None:
    """Libraries time their pools; adapters are what touches the world."""
    with guarded():
        assert module(name, "time.time()").look() > 0


def test_it_ends_a_run_and_is_gone_after_it() -> None:
    """The error of a service's task fails the run."""
    world, real = World(1), time.time

    async def scene() -> None:
        world.loop.call_soon(module("cloud.service.any", "time.time()").look)
        await world.clock.sleep(1)

    with pytest.raises(SimulationError, match=r"time\.time"):
        world.loop.run(scene())
    assert time.time is real
