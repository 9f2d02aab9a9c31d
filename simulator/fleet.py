"""A whole fleet on one virtual loop: one hub, its broker, and devices that enrol as real ones do."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from cloud.service.hub import Intervals
from edge_agent.bootstrap import AgentPolicy
from simulator.core.network import Network, Quality
from simulator.device import DEFAULT_POLICY, Device
from simulator.fakes.broker import MemoryBroker
from simulator.hub import HUB_INTERVALS, SimulatedHub
from simulator.world import World
from wire.identity import ClaimFile
from wire.ports import MILLISECOND, SECOND

BOOT_SPREAD_NS = 20 * SECOND
KILL_EVERY_NS = 15 * SECOND
DOWN_MIN_NS = 100 * MILLISECOND
DOWN_MAX_NS = 8 * SECOND


@dataclass(frozen=True, slots=True)
class Size:
    """How many devices, how good their networks are, and what they are set to."""

    devices: int
    quality: Quality
    enrolled: bool = False
    """They have an identity already, as after an earlier life of the fleet."""
    policy: AgentPolicy = DEFAULT_POLICY
    disk_turn_every: int = 1
    """Disk operations that are one turn of the loop: more of them make a large fleet faster, and less of a test."""


class Fleet:
    """The hub and the devices, in order of their names."""

    def __init__(self, world: World, intervals: Intervals = HUB_INTERVALS) -> None:
        self.world = world
        self.hub = SimulatedHub(world, intervals)
        self.devices: list[Device] = []
        self.reconnects = 0
        self.kills = 0

    async def start(self, size: Size) -> None:
        """Start the hub, claim the devices and switch them on, each at its own moment."""
        self.hub.start()
        await asyncio.sleep(1)
        names = [f"d{number:05}" for number in range(size.devices)]
        if size.enrolled:
            for claim, identity in await self.hub.enrol(names):
                self._add(claim, size).remember(identity)
        else:
            for name in names:
                self._add(await self.hub.claim(name), size)

    def plan_reboots(self, count: int, operations: int) -> None:
        """Have power fail `count` times in all, on random devices, each within its next `operations` on the disk."""
        rng = self.world.rng.child(f"reboots {self.world.clock.monotonic_ns()}")
        for _ in range(count):
            device = self.devices[rng.below(len(self.devices))]
            device.cuts.append(1 + rng.below(operations))
            device.arm()

    def plan_reconnects(self, count: int, within_s: int) -> None:
        """Break `count` connections in all, of random devices, within the next `within_s` seconds."""
        rng = self.world.rng.child(f"reconnects {self.world.clock.monotonic_ns()}")
        for _ in range(count):
            device = self.devices[rng.below(len(self.devices))]
            self._later(rng.below(within_s * SECOND), partial(self._cut, device))

    def plan_kills(self, count: int) -> None:
        """Kill hub or broker `count` times in all, one after the other; each is started again some seconds later."""
        rng = self.world.rng.child(f"kills {self.world.clock.monotonic_ns()}")
        at_ns = 0
        for _ in range(count):
            at_ns += rng.between(MILLISECOND, KILL_EVERY_NS)
            victim = self.hub if rng.chance(0.5) else self.world.broker
            self._later(at_ns, partial(self._kill, victim))
            at_ns += rng.between(DOWN_MIN_NS, DOWN_MAX_NS)
            self._later(at_ns, victim.start)

    def _add(self, claim: ClaimFile, size: Size) -> Device:
        """One device more, which is switched on soon."""
        rng = self.world.rng.child(claim.device)
        network = Network(size.quality, rng.child("network"), self.world.faults)
        device = Device(self.world, claim, network, rng.child("device"), policy=size.policy)
        device.disk.turn_every = size.disk_turn_every
        self.devices.append(device)
        self._later(rng.below(BOOT_SPREAD_NS), device.boot)
        return device

    @property
    def reboots(self) -> int:
        """Power cuts that happened."""
        return sum(device.reboots for device in self.devices)

    def check(self) -> None:
        """Raises BrokenPromiseError if any device has lost its model."""
        for device in self.devices:
            device.check()

    def _kill(self, victim: SimulatedHub | MemoryBroker) -> None:
        self.kills += 1
        victim.kill()

    def _cut(self, device: Device) -> None:
        if device.link is not None and device.link.connected:
            self.reconnects += 1
            device.link.cut()

    def _later(self, delay_ns: int, call: Callable[[], None]) -> None:
        self.world.process.run(self.world.clock.call_later, delay_ns, call)
