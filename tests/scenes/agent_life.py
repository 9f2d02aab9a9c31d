"""One device's whole life in virtual time: its disk outlives its starts, its clock may be wrong, its cloud may lie."""

from collections.abc import Awaitable, Callable

import numpy as np

from simulator.core.clock import VirtualClock
from simulator.core.loop import VirtualLoop
from simulator.core.rng import Rng
from simulator.fakes.trust import InlineTrust
from simulator.fakes.tuf_repository import TufRepository
from simulator.memory_disk import MemoryDisk
from tests.worlds.agent_world import Air, AirLink, Device, Gear, assign, committed, device, ship, wanted
from tests.worlds.trust_world import NOW_NS, ROOT
from wire.messages import Phase, Reported, SlotReport
from wire.ports import SECOND

ONE, TWO = ship(1), ship(2)
HOUR = 3600 * SECOND


def ended(execution: str) -> Callable[[SlotReport], bool]:
    """Failed in this execution?"""
    return lambda slot: slot.phase is Phase.FAILED and slot.execution == execution


class Life:
    """The device, its disk and its cloud."""

    def __init__(self, skew_ns: int = 0, told_ns: int | None = NOW_NS) -> None:
        self.skew_ns = skew_ns
        self.clock: VirtualClock
        self.disk = MemoryDisk()
        self.trust = InlineTrust(ROOT)
        self.air = Air()
        self.air.cloud.now_ns = told_ns
        for shipped in (ONE, TWO):
            self.air.hold(shipped)

    @property
    def repository(self) -> TufRepository:
        """The honest one."""
        return self.air.cloud.repository

    def live(self, scene: Callable[[Device], Awaitable[None]]) -> None:
        """From a start of the agent to its end."""

        loop = VirtualLoop(Rng(1))
        self.clock = VirtualClock(loop, self.skew_ns)

        async def whole() -> None:
            async with device(Gear(self.disk, self.clock, AirLink(self.air), trust=self.trust)) as unit:
                await scene(unit)

        loop.run(whole())

    async def slot(self, good: Callable[[SlotReport], bool]) -> SlotReport:
        """The newest state of the slot, once it is `good`."""
        while not (self.air.reports and self.air.reports[-1].slots and good(self.air.reports[-1].slots[0])):
            await self.clock.sleep(SECOND // 10)
        return self.air.reports[-1].slots[0]

    async def report(self, good: Callable[[Reported], bool]) -> Reported:
        """The newest report, once it is `good`."""
        while not (self.air.reports and good(self.air.reports[-1])):
            await self.clock.sleep(SECOND // 10)
        return self.air.reports[-1]

    async def install(self, version: int, sequence: int) -> None:
        """Have this version committed."""
        shipped = {1: ONE, 2: TWO}[version]
        self.air.desire(assign(sequence, wanted(shipped, f"e{sequence}")))
        await self.slot(committed(version))


async def answers(unit: Device) -> int:
    """The version that answers the application now."""
    return (await unit.inference.predict(np.zeros(4, np.float32))).version
