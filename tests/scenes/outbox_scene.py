"""A device that counts and tells in virtual time, through a tunnel, on a disk that counts what is done to it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec

from edge_agent.bootstrap import AgentPolicy
from edge_agent.errors import DiskFullError
from simulator.core.clock import VirtualClock
from simulator.core.loop import VirtualLoop
from simulator.core.rng import Rng
from simulator.fakes.device import MemoryCaptures
from simulator.memory_disk import MemoryDisk
from tests.worlds.agent_world import DEVICE, TOPICS, Air, AirLink, Device, Gear, device
from wire.codec import encode
from wire.messages import Receipt, Telemetry
from wire.ports import SECOND, LinkError

INTERVAL_S = 5
"""Between two counts."""
TOLD_S = 4
"""How soon each of them is told."""


class CountingDisk(MemoryDisk):
    """Counts what is done to the outbox, and can refuse to be written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.syncs = 0
        self.refuses: tuple[str, ...] = ()

    async def create(self, path: str, size: int) -> None:
        """As the disk does."""
        self._judge(path)
        await super().create(path, size)

    async def pwrite(self, path: str, offset: int, data: bytes) -> None:
        """As the disk does."""
        self._judge(path)
        self.writes += path.startswith("outbox/")
        await super().pwrite(path, offset, data)

    async def fsync(self, path: str) -> None:
        """As the disk does."""
        self.syncs += path.startswith("outbox/")
        await super().fsync(path)

    def bytes_used(self) -> int:
        """By the outbox."""
        return sum(len(self.peek(path) or b"") for path in self.paths if path.startswith("outbox/"))

    def _judge(self, path: str) -> None:
        if path.startswith(self.refuses):
            raise DiskFullError("no room")


class Tunnel(AirLink):
    """A link that can be down."""

    def down(self) -> None:
        """Into the tunnel."""
        self._connected = False

    def back(self) -> None:
        """Out of it."""
        self._connected = True
        self._up()

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Not in the tunnel."""
        if not self.connected:
            raise LinkError("no link")
        await super().publish(topic, payload, retain=retain)


class Scene:
    """One device, its clock and its air."""

    def __init__(self, clock: VirtualClock, disk: CountingDisk, outbox_bytes: int) -> None:
        self.clock, self.disk, self.outbox_bytes = clock, disk, outbox_bytes
        self.air = Air()
        self.link = Tunnel(self.air)
        self.captures = MemoryCaptures()

    @asynccontextmanager
    async def device(self) -> AsyncIterator[Device]:
        """The device, until it is stopped."""
        self.link = Tunnel(self.air)
        policy = AgentPolicy(TOLD_S, self.outbox_bytes)
        gear = Gear(self.disk, self.clock, self.link, captures=self.captures, policy=policy)
        async with device(gear) as unit:
            yield unit

    async def measure(self, unit: Device, seconds: float) -> None:
        """Something is counted every INTERVAL_S for so long."""
        for _ in range(int(seconds / INTERVAL_S)):
            unit.inference.on_answered()
            await self.clock.sleep(INTERVAL_S * SECOND)

    @property
    def told(self) -> list[Telemetry]:
        """Every telemetry message that was published, repetitions too."""
        topic = TOPICS.up(DEVICE, "telemetry")
        return [msgspec.json.decode(data, type=Telemetry) for name, data in self.air.published if name == topic]

    @property
    def heartbeats(self) -> int:
        """How often it said nothing but that it is there."""
        return self.air.published.count((TOPICS.up(DEVICE, "heartbeat"), b""))

    def receipt(self, seq: int) -> None:
        """The hub's."""
        self.air.send(TOPICS.dn(DEVICE, "receipt"), encode(Receipt(channel="telemetry", seq=seq)))


def play(scenario: Callable[[Scene], Awaitable[None]], outbox_bytes: int = 4 * 1024 * 1024) -> None:
    """Run one scenario in virtual time."""
    loop = VirtualLoop(Rng(1))

    async def whole() -> None:
        await scenario(Scene(VirtualClock(loop), CountingDisk(), outbox_bytes))

    loop.run(whole())
