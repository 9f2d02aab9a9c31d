"""The device's client: refusals with reasons, one answer per task, repeats, chunks on demand, nothing left at rest."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from federated.device.client import FIRST_REPEAT_NS, FederatedClient
from federated.device.ports import HostError, LearningFiles, Remembered, Samples, Trainer
from federated.device.trainer import OnnxTrainer
from federated.records import from_object, to_object
from tests.worlds.federated_world import CONFIG, MODEL, TOPICS, VERSION, samples_of, starting_parameters, write_graphs
from wire.assignment import FederatedPolicy
from wire.codec import decode, encode
from wire.federated import Done, Down, Record, Reply, Task
from wire.messages import Want
from wire.ports import Inbound, LinkError
from wire.release import ObjectRef, object_ref
from wire.transfer.chunks import unframe

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


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> LearningFiles:
    """The toy model's graphs."""
    return write_graphs(tmp_path_factory.mktemp("graphs"))


def play(files: LearningFiles, story: Callable[[World], Awaitable[None]]) -> None:
    """Run a story in a fresh world."""

    async def run() -> None:
        await story(World(files))

    asyncio.run(run())


def test_a_training_task_is_answered_with_new_parameters(files: LearningFiles) -> None:
    """Offered first, delivered on demand, remembered until the cloud has it, counted then; at rest nothing remains."""

    async def story(world: World) -> None:
        await world.give()
        (reply,) = world.replies
        assert reply.ok
        assert reply.arrays is not None
        world.client.on_want(encode(Want(sha256=reply.arrays.sha256, indices=(0, 7))))
        await world.rest()
        topic, payload = world.link.sent[-1]
        assert topic == TOPICS.up_chunk("ada", reply.arrays.sha256, 0)
        update = from_object(bytes(unframe(payload)[2]), reply.records)["arrays"]
        assert (update["w"] != starting_parameters()["w"]).all()
        assert list(world.host.memory) == ["t1"]
        await world.done()
        assert (world.host.memory, world.host.accepted) == ({}, ["t1"])
        world.clock.advance(10 * FIRST_REPEAT_NS)
        assert len(world.replies) == 1

    play(files, story)


def test_a_repeated_task_is_trained_once(files: LearningFiles) -> None:
    """Also across a restart: the same bytes are offered again."""

    async def story(world: World) -> None:
        await world.give()
        await world.give()
        world.client = world.new_client()
        await world.give()
        assert len(world.replies) == 3
        assert world.replies[0] == world.replies[1] == world.replies[2]
        assert world.host.fetched == 1

    play(files, story)


def test_an_update_counts_once_though_a_late_copy_of_its_task_is_done_again(files: LearningFiles) -> None:
    """Seed 611: overtaken on its way, it came after the cloud had confirmed the update."""

    async def story(world: World) -> None:
        for _ in range(2):
            await world.give()
            await world.done()
        assert len(world.replies) == 2
        assert (world.host.memory, world.host.accepted) == ({}, ["t1"])

    play(files, story)


def test_an_answer_is_repeated_until_it_is_confirmed(files: LearningFiles) -> None:
    """By a timer with growing pauses, and when the link comes back."""

    async def story(world: World) -> None:
        world.link.connected = False
        await world.give()
        assert world.replies == []
        world.link.connected = True
        world.client.on_up()
        await world.rest()
        world.clock.advance(FIRST_REPEAT_NS)
        await world.rest()
        world.clock.advance(FIRST_REPEAT_NS)
        await world.rest()
        assert len(world.replies) == 2
        await world.done(accepted=False)
        world.clock.advance(100 * FIRST_REPEAT_NS)
        assert len(world.replies) == 2
        assert world.host.accepted == []

    play(files, story)


@pytest.mark.parametrize(
    ("prepare", "changes", "reason"),
    [
        (lambda host: setattr(host, "allowed", FederatedPolicy(enabled=False)), {}, "policy"),
        (lambda host: setattr(host, "captured", samples_of("ada", windows=9)), {}, "too few samples: 9"),
        (lambda host: setattr(host, "object", None), {}, "did not come in time"),
        (lambda host: setattr(host, "object", b"junk"), {}, "safetensors"),
        (lambda host: None, {"version": 2}, "version 2 is not what runs here"),
        (lambda host: None, {"kind": "query"}, "unknown kind"),
        (lambda host: None, {"deadline_ns": 1}, "deadline has passed"),
        (lambda host: None, {"arrays": None}, "no parameters"),
        (lambda host: None, {"records": RECORDS[:1]}, "local-epochs"),
        (
            lambda host: None,
            {"records": (RECORDS[0], Record(name="config", kind="config", values={**CONFIG, "lr": 3e38}))},
            "NaN or infinite",
        ),
    ],
)
def test_a_refusal_names_its_reason(
    prepare: Callable[[FakeHost], None], changes: dict[str, Any], reason: str, files: LearningFiles
) -> None:
    """Nothing is remembered, so that a later try may succeed."""

    async def story(world: World) -> None:
        prepare(world.host)
        await world.give(**changes)
        (reply,) = world.replies
        assert not reply.ok
        assert reason in reply.reason
        assert world.host.memory == {}

    play(files, story)


def test_a_graph_that_cannot_be_loaded_is_a_refusal(tmp_path: Path, files: LearningFiles) -> None:
    """The daemon lives on."""

    async def story(world: World) -> None:
        broken = tmp_path / "broken.onnx"
        broken.write_bytes(b"not a model")
        world.host.files = LearningFiles(str(broken), str(broken), files.learning)
        await world.give()
        assert "cannot load the graph" in world.replies[0].reason

    play(files, story)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "truncated"),
        (b"{}x", "trailing characters"),
        (b'{"task": {}}', "missing required field"),
        (b'{"surprise": 1}', "unknown field `surprise`"),
        (b'{"task": {"surprise": 1}}', "unknown field `surprise`"),
        (encode(Down(task=TASK))[:-9], "truncated"),
        (b'{"done": {"run": "\xff"}}', "utf-8"),
        (b"[" * 5000, "Expected `object`"),
        (b" " * 70_000, "70000 bytes, at most"),
    ],
)
def test_junk_is_ignored_with_a_reason_in_the_log(
    payload: bytes, reason: str, files: LearningFiles, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever arrives on the two topics: nothing is sent, nothing remembered, and a good task is done after it."""

    async def story(world: World) -> None:
        world.client.on_fed(payload)
        world.client.on_want(payload)
        await world.rest()
        assert (world.link.sent, world.host.memory, world.client.busy) == ([], {}, False)
        assert reason in caplog.messages[0]
        await world.give()
        assert world.replies[0].ok

    play(files, story)


def test_a_damaged_answer_is_not_repeated_but_made_anew(files: LearningFiles) -> None:
    """What was remembered rotted on the disk: the task is done again, and answered as before."""

    async def story(world: World) -> None:
        await world.give()
        first = world.host.memory["t1"]
        world.host.memory["t1"] = Remembered(first.reply[:-7], first.arrays)
        world.client = world.new_client()
        await world.give()
        assert [reply.ok for reply in world.replies] == [True, True]
        assert world.host.memory == {"t1": first}

    play(files, story)


def test_a_task_id_that_is_no_plain_word_is_ignored(files: LearningFiles) -> None:
    """It could reach a file name."""

    async def story(world: World) -> None:
        await world.give(task="../../identity")
        assert world.link.sent == []

    play(files, story)


def test_a_task_that_is_no_longer_wanted_is_cancelled(files: LearningFiles) -> None:
    """Done for the task being worked on ends it between two scans, without an answer."""

    async def story(world: World) -> None:
        class Late(Inline):
            async def run(self, call: Callable[[], T]) -> T:
                world.client.on_fed(encode(Down(done=Done(run="r", task="t1", accepted=False))))
                return call()

        world.client._bench._offload = Late()
        await world.give()
        assert (world.replies, world.host.memory) == ([], {})

    play(files, story)
