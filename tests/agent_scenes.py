"""Scenes of one device over light ports and the real clock, as short as they can be told."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from simulator.memory_disk import MemoryDisk
from tests.agent_world import Air, AirLink, Gear, ship
from wire.adapters.system import SystemClock
from wire.messages import Phase, SlotReport

ONE, TWO = ship(1), ship(2)


def gear(air: Air, disk: MemoryDisk | None = None) -> Gear:
    """Light ports and the real clock."""
    return Gear(disk or MemoryDisk(), SystemClock(), AirLink(air))


def failed(slot: SlotReport) -> bool:
    """Has the execution failed?"""
    return slot.phase is Phase.FAILED


def air_with(*shipped: object) -> Air:
    """An air that holds these releases."""
    air = Air()
    for one in shipped or (ONE, TWO):
        air.hold(one)  # type: ignore[arg-type]
    return air


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run one scenario; the light canary takes no time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simulator.fakes.runtime.CANARY_NS", 0)
        asyncio.run(asyncio.wait_for(scenario(), 20))  # type: ignore[arg-type]
