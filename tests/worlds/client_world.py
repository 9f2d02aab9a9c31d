"""The federated client of a device with a clock, a link and a host that tests move, cut and look into."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from federated.device.client import FederatedClient
from federated.device.ports import HostError, LearningFiles, Remembered, Samples, Trainer
from federated.device.trainer import OnnxTrainer
from federated.records import to_object
from tests.worlds.federated_world import CONFIG, MODEL, TOPICS, VERSION, samples_of, starting_parameters
from wire.assignment import FederatedPolicy
from wire.codec import decode, encode
from wire.federated import Done, Down, Record, Reply, Task
from wire.ports import Inbound, LinkError
from wire.release import ObjectRef, object_ref

T = TypeVar("T")
OBJECT = to_object({"arrays": starting_parameters()})
RECORDS = (
    Record(name="arrays", kind="arrays", keys=tuple(starting_parameters())),
    Record(name="config", kind="config", values=CONFIG),  # type: ignore[arg-type]
)
TASK = Task(
    run="r", task="t1", kind="train", round=1, model=MODEL, version=VERSION, records=RECORDS, arrays=object_ref(OBJECT)
)


class FakeClock:
    """Time stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = 1_000
        self.timers: list[FakeTimer] = []

    def now_ns(self) -> int:
        """The moment."""
        return self.now

    monotonic_ns = elapsed_ns = now_ns

    async def sleep(self, ns: int) -> None:
        """Not used by the client."""
        raise AssertionError(ns)

    def call_later(self, ns: int, call: Callable[[], None]) -> "FakeTimer":
        """Remember the call."""
        timer = FakeTimer(self, self.now + ns, call)
        self.timers.append(timer)
        return timer

    def advance(self, ns: int) -> None:
        """Move on and make the calls that are due."""
        self.now += ns
        for timer in [timer for timer in self.timers if timer.due <= self.now]:
            timer.cancel()
            timer.call()


class FakeTimer:
    """A remembered call."""

    def __init__(self, clock: FakeClock, due: int, call: Callable[[], None]) -> None:
        self.clock, self.due, self.call = clock, due, call

    def cancel(self) -> None:
        """Forget it."""
        if self in self.clock.timers:
            self.clock.timers.remove(self)


class FakeLink:
    """Collects what is published; may be cut."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.connected = True
        self.on_message: Callable[[Inbound], None] = lambda message: None
        self.on_up: Callable[[], None] = lambda: None
        self.on_down: Callable[[str], None] = lambda reason: None

    async def start(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do."""

    async def subscribe(self, *filters: str) -> None:
        """Nothing to do."""

    async def unsubscribe(self, *filters: str) -> None:
        """Nothing to do."""

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Into the list."""
        if not self.connected:
            raise LinkError("cut")
        self.sent.append((topic, payload))


class Inline:
    """Runs the work at once."""

    async def run(self, call: Callable[[], T]) -> T:
        """Here and now."""
        return call()


class FakeHost:
    """A host in memory that can refuse everything."""

    def __init__(self, files: LearningFiles) -> None:
        self.files: LearningFiles | None = files
        self.allowed = FederatedPolicy(enabled=True, min_samples=16)
        self.captured: Samples = samples_of("ada")
        self.memory: dict[str, Remembered] = {}
        self.accepted: list[str] = []
        self.fetched = 0
        self.object: bytes | None = OBJECT

    def policy(self) -> FederatedPolicy:
        """As set."""
        return self.allowed

    def now_ns(self) -> int:
        """Later than the earliest deadline."""
        return 1

    async def fetch(self, ref: ObjectRef) -> bytes:
        """The object, unless there is none."""
        self.fetched += 1
        if self.object is None:
            raise HostError("the object did not come in time")
        return self.object

    async def learning(self, model: str, version: int) -> LearningFiles | None:
        """Only the toy."""
        return self.files if (model, version) == (MODEL, VERSION) else None

    def trainer(self, files: LearningFiles) -> Trainer:
        """Stock onnxruntime."""
        return OnnxTrainer(files)

    async def samples(self, model: str) -> Samples:
        """As set."""
        return self.captured

    async def remember(self, task: str, reply: bytes, arrays: bytes) -> None:
        """Keep."""
        self.memory[task] = Remembered(reply, arrays)

    async def recall(self, task: str) -> Remembered | None:
        """Find."""
        return self.memory.get(task)

    async def forget(self, task: str, *, update_accepted: bool) -> None:
        """Drop and count."""
        del self.memory[task]
        if update_accepted:
            self.accepted.append(task)


class World:
    """A client with its fakes."""

    def __init__(self, files: LearningFiles) -> None:
        self.link, self.clock, self.host = FakeLink(), FakeClock(), FakeHost(files)
        self.client = self.new_client()

    def new_client(self) -> FederatedClient:
        """As after a restart of the agent."""
        return FederatedClient("ada", TOPICS, self.link, self.clock, Inline(), self.host)

    async def give(self, **changes: Any) -> None:
        """Send the task, changed so, and let the client work until it rests."""
        self.client.on_fed(encode(Down(task=msgspec.structs.replace(TASK, **changes))))
        await self.rest()

    async def done(self, accepted: bool = True) -> None:
        """Confirm the task."""
        self.client.on_fed(encode(Down(done=Done(run="r", task="t1", accepted=accepted))))
        await self.rest()

    async def rest(self) -> None:
        """Until no task of the client's runs."""
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.gather(*others)

    @property
    def replies(self) -> list[Reply]:
        """Replies sent so far."""
        return [decode(payload, Reply) for topic, payload in self.link.sent if topic == TOPICS.up("ada", "fed")]


def play(files: LearningFiles, story: Callable[[World], Awaitable[None]]) -> None:
    """Run a story in a fresh world."""

    async def run() -> None:
        await story(World(files))

    asyncio.run(run())
