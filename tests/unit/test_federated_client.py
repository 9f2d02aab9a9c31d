"""The device's client: refusals with reasons, one answer per task, repeats, chunks on demand, nothing left at rest."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from federated.device.client import FIRST_REPEAT_NS
from federated.device.ports import LearningFiles, Remembered
from federated.records import from_object
from tests.worlds.client_world import RECORDS, TASK, FakeHost, Inline, T, World, play
from tests.worlds.federated_world import CONFIG, TOPICS, samples_of, starting_parameters, write_graphs
from wire.assignment import FederatedPolicy
from wire.codec import encode
from wire.federated import Done, Down, Record
from wire.messages import Want
from wire.transfer.chunks import unframe


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> LearningFiles:
    """The toy model's graphs."""
    return write_graphs(tmp_path_factory.mktemp("graphs"))


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
