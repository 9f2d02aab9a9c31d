"""A whole fleet on one virtual loop: one hub, its broker, and devices that enrol as real ones do."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cloud.service.parts import Intervals
from edge_agent.bootstrap import AgentPolicy
from simulator.core.network import Network, Quality
from simulator.device import DEFAULT_POLICY, Device
from simulator.estate import NEW_FLEET, DeviceEstate, FleetEstate
from simulator.fakes.broker import MemoryBroker
from simulator.hub import HUB_INTERVALS, SimulatedHub
from simulator.world import World
from wire.identity import ClaimFile
from wire.ports import SECOND

BOOT_SPREAD_NS = 20 * SECOND
EMPTY_DISK: Mapping[str, bytes] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Size:
    """How many devices, how good their networks are, and what they are set to."""

    devices: int
    quality: Quality
    enrolled: bool = False
    """They have an identity already, as after an earlier life of the fleet."""
    federated: bool = False
    """They may learn. (Of devices that join.)"""
    policy: AgentPolicy = DEFAULT_POLICY
    boot_within_ns: int = BOOT_SPREAD_NS
    disk_turn_every: int = 1
    """Disk operations that are one turn of the loop: more of them make a large fleet faster, and less of a test."""


class Fleet:
    """The hub and the devices, in order of their names."""

    def __init__(
        self,
        world: World,
        intervals: Intervals = HUB_INTERVALS,
        estate: FleetEstate = NEW_FLEET,
        *,
        certificate_life_ns: int = 0,
    ) -> None:
        self.world = world
        self._estate = estate
        world.clock.skew_ns = estate.age_ns
        self.hub = SimulatedHub(world, intervals, estate.hub, certificate_life_ns=certificate_life_ns)
        self.devices: list[Device] = []
        self.on_device: Callable[[Device], None] = lambda device: None
        """Called with every new device before it is switched on."""
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

    def wake(self, size: Size) -> None:
        """Switch on the devices of the estate, as those that `size` describes."""
        for one in self._estate.devices:
            self._add(one.claim, size, one.files)

    def leave(self) -> FleetEstate:
        """What outlives every process, now; nothing must be under way."""
        devices = tuple(DeviceEstate(one.claim, one.files) for one in self.devices)
        return FleetEstate(self._estate.age_ns + self.world.loop.now_ns, self.hub.leave(), devices)

    async def join(self, size: Size) -> Device:
        """Claim one more device, as one of those that `size` describes."""
        return self._add(await self.hub.claim(f"d{len(self.devices):05}", federated=size.federated), size)

    def _add(self, claim: ClaimFile, size: Size, files: Mapping[str, bytes] = EMPTY_DISK) -> Device:
        """One device more, which is switched on soon."""
        rng = self.world.rng.child(claim.device)
        network = Network(size.quality, rng.child("network"), self.world.faults)
        device = Device(self.world, claim, network, rng.child("device"), policy=size.policy)
        device.clock.skew_ns = self._estate.age_ns
        device.disk.hold(files)
        device.disk.turn_every = size.disk_turn_every
        self.devices.append(device)
        self.on_device(device)
        self.later(rng.below(size.boot_within_ns), device.boot)
        return device

    @property
    def reboots(self) -> int:
        """Power cuts that happened."""
        return sum(device.reboots for device in self.devices)

    def check(self) -> None:
        """Raises BrokenPromiseError if any device has lost its model."""
        for device in self.devices:
            device.check()

    def kill(self, victim: SimulatedHub | MemoryBroker, down_ns: int) -> None:
        """Kill it now, unless it is down; it is started again after `down_ns`."""
        if victim.running:
            self.kills += 1
            victim.kill()
            self.later(down_ns, victim.start)

    def cut_connection(self, device: Device) -> None:
        """Reset its connection, if it has one."""
        if device.link is not None and device.link.connected:
            self.reconnects += 1
            device.link.cut()

    def later(self, delay_ns: int, call: Callable[[], None]) -> None:
        """Call after `delay_ns`, whatever else is killed meanwhile."""
        self.world.process.run(self.world.clock.call_later, delay_ns, call)
