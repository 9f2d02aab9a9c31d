"""Scenes of one device over light ports, by the real clock or in virtual time, as short as they can be told."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

import pytest

from simulator.core.clock import VirtualClock
from simulator.core.loop import VirtualLoop
from simulator.core.rng import Rng
from simulator.memory_disk import MemoryDisk
from tests.worlds.agent_world import Air, AirLink, Gear, ship
from wire.adapters.system import SystemClock
from wire.messages import Phase, SlotReport

ONE, TWO = ship(1), ship(2)


def gear(air: Air, disk: MemoryDisk | None = None, clock: VirtualClock | None = None) -> Gear:
    """Light ports, and the real clock unless there is another one."""
    return Gear(disk or MemoryDisk(), clock or SystemClock(), AirLink(air))


def failed(slot: SlotReport) -> bool:
    """Has the execution failed?"""
    return slot.phase is Phase.FAILED


def air_with(*shipped: object) -> Air:
    """An air that holds these releases."""
    air = Air()
    for one in shipped or (ONE, TWO):
        air.hold(one)  # type: ignore[arg-type]
    return air


def in_virtual_time(scenario: Callable[[VirtualClock], Coroutine[None, None, None]]) -> None:
    """Run one scenario by the clock that it is given."""
    loop = VirtualLoop(Rng(1))
    loop.run(scenario(VirtualClock(loop)))


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run one scenario; the light canary takes no time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simulator.fakes.runtime.CANARY_NS", 0)
        asyncio.run(asyncio.wait_for(scenario(), 20))  # type: ignore[arg-type]
