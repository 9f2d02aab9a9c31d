"""Collecting answers: checks, repeats, deadlines, dropouts; every instruction ends in exactly one answer."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from federated.core.collection import Collection, Effect, Keep, Pace, SendDone, SendTask, SendWant
from federated.core.issue import Answer, Instruction, Verdict
from federated.core.replies import Limits
from federated.records import to_object
from wire.federated import Record, Reply, Task
from wire.ports import SECOND
from wire.release import object_ref
from wire.transfer.chunks import frames

SENT = {"w": np.ones((4, 3), np.float32), "b": np.zeros(3, np.float32)}
OBJECT = to_object({"arrays": SENT})
ARRAYS = Record(name="arrays", kind="arrays", keys=("w", "b"))
TASK = Task(
    run="r", task="t-1", kind="train", round=1, model="m", version=1, records=(ARRAYS,), arrays=object_ref(OBJECT)
)
FIGURES: dict[str, Any] = {"num-examples": 40, "train-loss": 0.5}


def collecting(*devices: str, online: bool = True, **pace: int) -> tuple[Collection, list[Effect]]:
    """A collection that has offered the task to each device at time 0, due at 100 s."""
    collection = Collection("r", Limits(max_examples=1000), Pace(**pace))
    for device in devices:
        collection.on_status(device, online, 0)
    instructions = [Instruction(device, msgspec.structs.replace(TASK, task=f"t-{device}"), SENT) for device in devices]
    return collection, collection.offer(instructions, 100 * SECOND, 0)


def offer(arrays: dict[str, np.ndarray] | None = None, figures: dict[str, Any] | None = None) -> tuple[Reply, bytes]:
    """An honest reply of device ada, or one with these arrays and figures."""
    data = to_object({"arrays": SENT if arrays is None else arrays})
    metrics = Record(name="metrics", kind="metrics", values=FIGURES if figures is None else figures)
    record = Record(name="arrays", kind="arrays", keys=tuple(SENT if arrays is None else arrays))
    return Reply(run="r", task="t-ada", ok=True, records=(record, metrics), arrays=object_ref(data)), data


def deliver(collection: Collection, reply: Reply, data: bytes) -> list[Effect]:
    """The reply and then every chunk."""
    effects = collection.on_reply("ada", reply, 1)
    for index, payload in enumerate(frames(data)):
        assert reply.arrays is not None
        effects += collection.on_chunk("ada", reply.arrays.sha256, index, payload, 2)
    return effects


def the_answer(effects: list[Effect]) -> Answer:
    """The only answer among the effects."""
    (answer,) = [effect.answer for effect in effects if isinstance(effect, Keep)]
    return answer


def test_an_honest_update_is_kept_before_the_device_may_forget_it() -> None:
    """Want, then keep, then done: in this order."""
    collection, sent = collecting("ada")
    assert [type(effect) for effect in sent] == [SendTask]
    effects = deliver(collection, *offer())
    assert [type(effect) for effect in effects] == [SendWant, Keep, SendDone]
    assert the_answer(effects).verdict is Verdict.ACCEPTED
    assert not collection.outstanding(["t-ada"])


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
    """The sent arrays with one of them changed."""
    return {**SENT, name: change(SENT[name])}


@pytest.mark.parametrize(
    ("arrays", "figures", "reason"),
    [
        (changed("w", lambda w: w * np.float32("nan")), None, "NaN"),
        (changed("b", lambda b: b + np.float32("inf")), None, "NaN or infinity"),
        (changed("w", lambda w: w[:-1]), None, "wrong shape"),
        (changed("w", lambda w: w.astype(np.float64)), None, "wrong dtype"),
        ({"w": SENT["w"]}, None, "wrong keys"),
        ({**SENT, "extra": SENT["b"]}, None, "wrong keys"),
        (changed("w", lambda w: w * 1e4), None, "norm of the update"),
        (changed("w", lambda w: np.ones((400, 300), np.float32)), None, "oversize"),
        (None, {**FIGURES, "num-examples": 10**9}, "weight cap"),
        (None, {**FIGURES, "num-examples": 0}, "positive"),
        (None, {**FIGURES, "num-examples": True}, "not a finite number"),
        (None, {**FIGURES, "train-loss": [1.0]}, "not a finite number"),
        (None, {**FIGURES, "train-loss": 10**400}, "not a finite number"),
        (None, {**FIGURES, "num-examples": 10**400}, "not a finite number"),
        (None, {"num-examples": 4}, "wrong metrics"),
        (None, {**FIGURES, "bonus": 1.0}, "wrong metrics"),
    ],
)
def test_a_bad_update_is_refused_with_its_reason(
    arrays: dict[str, np.ndarray] | None, figures: dict[str, Any] | None, reason: str
) -> None:
    """And the device is told."""
    collection, _ = collecting("ada")
    effects = deliver(collection, *offer(arrays, figures))
    answer = the_answer(effects)
    assert answer.verdict is Verdict.REFUSED
    assert reason in answer.reason
    done = effects[-1]
    assert isinstance(done, SendDone)
    assert not done.done.accepted


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda payload: payload[:-5], "expected"),
        (lambda payload: payload[:-1] + bytes([payload[-1] ^ 1]), "digest"),
        (lambda payload: b"XXXX" + payload[4:], "magic"),
        (lambda payload: b"", "payload has 0"),
    ],
)
def test_a_damaged_chunk_is_refused(damage: Callable[[bytes], bytes], reason: str) -> None:
    """Truncated, flipped, no chunk at all."""
    collection, _ = collecting("ada")
    reply, data = offer()
    effects = collection.on_reply("ada", reply, 1)
    assert reply.arrays is not None
    effects += collection.on_chunk("ada", reply.arrays.sha256, 0, damage(next(frames(data))), 2)
    assert reason in the_answer(effects).reason


def test_an_object_that_is_no_update_is_refused() -> None:
    """Right digest, wrong content."""
    collection, _ = collecting("ada")
    reply, _ = offer()
    junk = b"junk" * 50
    effects = deliver(collection, msgspec.structs.replace(reply, arrays=object_ref(junk)), junk)
    assert "safetensors" in the_answer(effects).reason


@pytest.mark.parametrize("accuracy", [1.0001, -0.1, 1e9])
def test_an_accuracy_that_cannot_be_is_refused(accuracy: float) -> None:
    """One device must not carry a whole fleet over the gate."""
    collection, _ = collecting()
    task = msgspec.structs.replace(TASK, task="t-ada", kind="evaluate")
    collection.offer([Instruction("ada", task, SENT)], 100 * SECOND, 0)
    figures: dict[str, Any] = {"num-examples": 40, "eval-acc": accuracy, "eval-loss": 0.5}
    records = (Record(name="metrics", kind="metrics", values=figures),)
    answer = the_answer(collection.on_reply("ada", Reply(run="r", task="t-ada", ok=True, records=records), 1))
    assert (answer.verdict, "'eval-acc' must lie between 0 and 1" in answer.reason) == (Verdict.REFUSED, True)


def test_only_the_addressed_device_may_answer() -> None:
    """Another one changes nothing."""
    collection, _ = collecting("ada", "bob")
    assert collection.on_reply("bob", offer()[0], 1) == []
    assert collection.outstanding(["t-ada"])


def test_a_repeated_answer_is_confirmed_again_and_counted_once() -> None:
    """The first confirmation may have been lost."""
    collection, _ = collecting("ada")
    reply, data = offer()
    deliver(collection, reply, data)
    (again,) = collection.on_reply("ada", reply, 5)
    assert isinstance(again, SendDone)
    assert again.done.accepted


def test_answers_of_before_a_restart_are_confirmed_as_they_were_taken() -> None:
    """An accepted update stays accepted; of an unknown one the device is told to forget it."""
    collection, _ = collecting()
    collection.remember([Answer("ada", "t-ada", Verdict.ACCEPTED)])
    (known,) = collection.on_reply("ada", offer()[0], 5)
    (unknown,) = collection.on_reply("ada", msgspec.structs.replace(offer()[0], task="t-old"), 5)
    assert isinstance(known, SendDone)
    assert isinstance(unknown, SendDone)
    assert (known.done.accepted, unknown.done.accepted) == (True, False)


def test_other_runs_are_ignored() -> None:
    """Two aggregators may share a broker."""
    collection, _ = collecting("ada")
    assert collection.on_reply("ada", msgspec.structs.replace(offer()[0], run="other"), 1) == []


def test_tasks_are_sent_again_until_they_are_answered() -> None:
    """Every few seconds, and at once when a device comes online."""
    collection, _ = collecting("ada", resend_ns=5 * SECOND)
    assert collection.on_tick(4 * SECOND) == []
    assert [type(effect) for effect in collection.on_tick(5 * SECOND)] == [SendTask]
    assert collection.on_tick(6 * SECOND) == []
    assert [type(effect) for effect in collection.on_status("ada", True, 7 * SECOND)] == [SendTask]


def test_lost_chunks_are_asked_for_again() -> None:
    """A want may get lost like any message."""
    collection, _ = collecting("ada", want_again_ns=2 * SECOND)
    collection.on_reply("ada", offer()[0], 0)
    assert [type(effect) for effect in collection.on_tick(3 * SECOND)] == [SendWant]


def test_a_device_that_went_offline_fails_after_the_grace() -> None:
    """Not before, and not when it came back in time."""
    collection, _ = collecting("ada", "bob", offline_grace_ns=10 * SECOND, resend_ns=99 * SECOND)
    collection.on_status("ada", False, SECOND)
    collection.on_status("bob", False, SECOND)
    collection.on_status("bob", True, 5 * SECOND)
    assert collection.on_tick(10 * SECOND) == []
    answer = the_answer(collection.on_tick(11 * SECOND))
    assert (answer.device, answer.verdict) == ("ada", Verdict.UNREACHABLE)


def test_a_straggler_fails_at_the_deadline() -> None:
    """With a reason that says so."""
    collection, _ = collecting("ada")
    assert "deadline" in the_answer(collection.on_tick(100 * SECOND)).reason


def test_pulls_are_granted_a_few_at_a_time() -> None:
    """The hub's memory holds no more updates than that; the next starts when one is complete."""
    collection, _ = collecting("ada", "bob", pulls=1)
    reply, data = offer()
    other = msgspec.structs.replace(reply, task="t-bob")
    assert [type(effect) for effect in collection.on_reply("bob", other, 1)] == [SendWant]
    assert collection.on_reply("ada", reply, 1) == []
    assert other.arrays is not None
    effects = collection.on_chunk("bob", other.arrays.sha256, 0, next(frames(data)), 2)
    assert [type(effect) for effect in effects] == [Keep, SendDone, SendWant]
    assert isinstance(effects[-1], SendWant)
    assert effects[-1].device == "ada"


def test_a_device_that_offers_and_never_delivers_does_not_keep_others_waiting() -> None:
    """Repeating what is held already is no delivery; after a few wants in vain the next pull starts beside it."""
    collection, _ = collecting("ada", "bob", pulls=1)
    large = {"w": np.zeros((400, 300), np.float32)}
    reply, _ = offer()
    data = to_object({"arrays": large})
    bobs = msgspec.structs.replace(
        TASK, task="t-bob", records=(Record(name="arrays", kind="arrays", keys=("w",)),), arrays=object_ref(data)
    )
    collection.offer([Instruction("bob", bobs, large)], 100 * SECOND, 0)
    metrics = Record(name="metrics", kind="metrics", values=FIGURES)
    lure = Reply(run="r", task="t-bob", ok=True, records=(*bobs.records, metrics), arrays=object_ref(data))
    collection.on_reply("bob", lure, 1)
    assert collection.on_reply("ada", reply, 1) == []
    assert lure.arrays is not None
    effects: list[Effect] = []
    for tick in range(1, 60):
        collection.on_chunk("bob", lure.arrays.sha256, 0, next(frames(data)), tick * SECOND // 2)
        effects += collection.on_tick(tick * SECOND // 2)
    assert "ada" in [effect.device for effect in effects if isinstance(effect, SendWant)]


def test_an_offer_that_changed_replaces_the_earlier_one() -> None:
    """A device that lost its memory mid-pull did the task again."""
    collection, _ = collecting("ada")
    first, _ = offer()
    second, data = offer(changed("w", lambda w: w * 2))
    collection.on_reply("ada", first, 1)
    assert the_answer(deliver(collection, second, data)).verdict is Verdict.ACCEPTED


def test_a_refusal_of_the_device_keeps_its_reason() -> None:
    """The strategy sees an error with these words."""
    collection, _ = collecting("ada")
    answer = the_answer(collection.on_reply("ada", Reply(run="r", task="t-ada", ok=False, reason="too few"), 1))
    assert (answer.verdict, answer.reason) == (Verdict.FAILED, "too few")
