"""Two ways to pull one object over the agent's own MQTT link: as a device does it, and bare, which is the measure.

The device is the agent's own code: receiver, part files, hashing, fsync in groups. The bare reader keeps nothing,
checks nothing and knows at once what the network lost, so no reader that does its duty can be faster.
"""

import asyncio
import random
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from edge_agent.adapters.posix_disk import PosixDisk, prepare
from edge_agent.core.patience import Patience
from edge_agent.service.downloads import Downloads
from edge_agent.service.objects import Objects
from edge_agent.service.transfer import Line
from wire.adapters.mqtt_link import Credentials, MqttLink
from wire.adapters.system import SystemClock, SystemIds, ThreadOffload
from wire.asks import Ask
from wire.assignment import TransferPolicy
from wire.identity import Broker
from wire.ports import Inbound
from wire.release import ObjectRef
from wire.topics import Chunk, Topics
from wire.transfer.chunks import count
from wire.transfer.pace import Bucket
from wire.transfer.receiver import WINDOW

PATIENCE = Patience(60.0)
DISK_THREADS = 4
CONNECTING = 50
PER_ADDRESS = 5_000
"""Sessions from one address: there are 28,000 local ports, and each rests for a minute after use."""
T = TypeVar("T")


@dataclass
class Costs:
    """What the devices of one round did."""

    completed: int = 0
    delivered: int = 0
    cpu_s: float = 0.0
    """Processor time of this process from the first request to the last chunk."""
    asked_hub: int = 0
    operations: Counter[str] = field(default_factory=Counter)
    busy_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Operation of the disk -> time that its threads spent in it."""


@dataclass(frozen=True)
class Pull:
    """What is pulled, by how many devices, over what."""

    ref: ObjectRef
    topics: Topics
    port: int
    devices: int
    loss: float
    at_once: int
    directory: Path
    first: int = 0
    """Number of the first device: those of several processes have numbers of their own."""

    @property
    def numbers(self) -> range:
        """Those of the devices."""
        return range(self.first, self.first + self.devices)


Gate = Callable[[], Awaitable[None]]
"""Returns when all who shall pull at the same time are connected."""


async def open_gate() -> None:
    """Nobody else pulls."""


async def bare_round(pull: Pull, costs: Costs, gate: Gate = open_gate) -> float:
    """All devices as bare readers; returns seconds."""
    readers = [_BareReader(pull, number) for number in pull.numbers]
    return await _timed(pull, readers, costs, gate)


async def device_round(pull: Pull, costs: Costs, gate: Gate = open_gate) -> float:
    """All devices as the agent does it; returns seconds."""
    offload = ThreadOffload(DISK_THREADS, "disk")
    roots = {number: pull.directory / "devices" / str(number) for number in pull.numbers}
    try:
        for root in roots.values():
            prepare(root)
        disks = {number: MeasuredDisk(root, offload, costs) for number, root in roots.items()}
        return await _timed(pull, [_Device(pull, number, disk, costs) for number, disk in disks.items()], costs, gate)
    finally:
        offload.close()
        for root in roots.values():
            shutil.rmtree(root)


class MeasuredDisk(PosixDisk):
    """The agent's disk, which notes what it does and for how long."""

    def __init__(self, root: Path, offload: ThreadOffload, costs: Costs) -> None:
        super().__init__(root, offload)
        self._costs = costs

    async def _run(self, call: Callable[[], T]) -> T:
        operation = call.__qualname__.split(".")[1] if hasattr(call, "__qualname__") else "other"

        def timed() -> T:
            began = time.perf_counter()
            try:
                return call()
            finally:
                self._costs.operations[operation] += 1
                self._costs.busy_s[operation] += time.perf_counter() - began

        return await super()._run(timed)


class LossyLine:
    """A device's connection, through a network that loses chunks on their way."""

    def __init__(self, pull: Pull, number: int) -> None:
        credentials = Credentials(f"device-{number}", "unused", client_id=SystemIds().new())
        source = f"127.0.0.{1 + number // PER_ADDRESS}"
        self.link = MqttLink(
            Broker(host="127.0.0.1", port=pull.port), credentials, keepalive_s=600, source_address=source
        )
        self.link.on_message = self._on_message
        self.on_chunk: Callable[[Inbound], None] = lambda message: None
        self.on_any: Callable[[], None] = lambda: None
        self.delivered = 0
        """Chunks that the broker delivered, those lost included."""
        self._loss = pull.loss
        self._random = random.Random(number)

    async def connect(self) -> None:
        """Return when the broker has accepted us."""
        up = asyncio.Event()
        self.link.on_up = up.set
        await self.link.start()
        await up.wait()

    def _on_message(self, message: Inbound) -> None:
        message.ack()
        self.delivered += 1
        if self._random.random() >= self._loss:
            self.on_chunk(message)
        self.on_any()


class _Device:
    """The agent's downloads."""

    def __init__(self, pull: Pull, number: int, disk: "MeasuredDisk", costs: Costs) -> None:
        self.line = LossyLine(pull, number)
        self._pull = pull
        self._disk = disk
        self._costs = costs

    async def run(self) -> None:
        """Fetch the object onto the disk."""
        clock = SystemClock()
        bucket = Bucket(clock.monotonic_ns())
        shared = (self.line.link, clock, SystemIds(), self._pull.topics, self._ask, TransferPolicy, bucket)
        line = Line(*shared)
        objects = Objects(self._disk)
        downloads = Downloads(self._disk, objects, line)

        def on_message(message: Inbound) -> None:
            parsed = self._pull.topics.parse(message.topic)
            assert isinstance(parsed, Chunk)
            downloads.on_chunk(parsed.sha256, parsed.chunk, message.payload)

        self.line.on_chunk = on_message
        await downloads.fetch(self._pull.ref, PATIENCE)
        self._costs.completed += 1

    def _ask(self, ask: Ask) -> None:
        """There is no hub that answers: what is retained must suffice."""
        self._costs.asked_hub += 1


class _BareReader:
    """Subscribes to eight chunks, counts them, goes on."""

    def __init__(self, pull: Pull, number: int) -> None:
        self.line = LossyLine(pull, number)
        self.line.on_any = self._on_any
        self._pull = pull
        self._news = asyncio.Event()
        self._have: set[str] = set()

    def _on_any(self) -> None:
        self._news.set()

    async def run(self) -> None:
        """Until every chunk has come."""
        link = self.line.link
        self.line.on_chunk = lambda message: self._have.add(message.topic)
        topics = [self._pull.topics.blob(self._pull.ref.sha256, i) for i in range(count(self._pull.ref.bytes))]
        before: list[str] = []
        while missing := [topic for topic in topics if topic not in self._have][:WINDOW]:
            expected = self.line.delivered + len(missing)
            drop = [link.unsubscribe(*before)] if before else []
            await asyncio.gather(link.subscribe(*missing), *drop)
            while self.line.delivered < expected:
                self._news.clear()
                await self._news.wait()
            before = missing
        await link.unsubscribe(*before)


class Puller(Protocol):
    """One that pulls."""

    line: LossyLine

    async def run(self) -> None:
        """Pull the object."""


async def _timed(pull: Pull, pullers: Sequence[Puller], costs: Costs, gate: Gate) -> float:
    """Connect all, then let `at_once` of them pull at a time; returns seconds of pulling."""
    connecting, pulling = asyncio.Semaphore(CONNECTING), asyncio.Semaphore(pull.at_once)

    async def one(turn: asyncio.Semaphore, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async with turn:
            await work()

    await asyncio.gather(*(one(connecting, puller.line.connect) for puller in pullers))
    await gate()
    began, before_s = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one(pulling, puller.run) for puller in pullers))
    seconds = time.perf_counter() - began
    costs.cpu_s += time.process_time() - before_s
    costs.delivered += sum(puller.line.delivered for puller in pullers)
    await asyncio.gather(*(one(connecting, puller.line.link.stop) for puller in pullers))
    return seconds
