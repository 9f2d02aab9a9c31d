"""Whatever happens in whatever order, every instruction ends in exactly one answer, kept before it is confirmed."""

from collections import Counter

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from federated.core.collection import Collection, Effect, Keep, Pace, SendDone
from federated.core.issue import Instruction
from federated.core.replies import Limits
from federated.records import to_object
from wire.federated import Record, Reply, Task
from wire.ports import SECOND
from wire.release import object_ref
from wire.transfer.chunks import frames

DEVICES = ("ada", "bob", "cleo")
SENT = {"w": np.ones((200, 100), np.float32)}
GOOD = to_object({"arrays": SENT})
BAD = to_object({"arrays": {"w": SENT["w"] * np.float32("nan")}})
RECORD = Record(name="arrays", kind="arrays", keys=("w",))
METRICS = Record(name="metrics", kind="metrics", values={"num-examples": 5, "train-loss": 0.1})
TASK = Task(run="r", task="", kind="train", round=1, model="m", version=1, records=(RECORD,), arrays=object_ref(GOOD))

Event = tuple[str, str, int]
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["online", "offline", "good", "bad", "refuse", "chunk", "torn", "tick", "abandon"]),
        st.sampled_from(DEVICES),
        st.integers(0, 1),
    ),
    max_size=40,
)


def happen(collection: Collection, event: Event, now: int) -> list[Effect]:
    """Feed one event."""
    kind, device, index = event
    reply = Reply(run="r", task=f"t-{device}", ok=True, records=(RECORD, METRICS))
    match kind:
        case "online" | "offline":
            return collection.on_status(device, kind == "online", now)
        case "good" | "bad":
            ref = object_ref(GOOD if kind == "good" else BAD)
            return collection.on_reply(device, msgspec.structs.replace(reply, arrays=ref), now)
        case "refuse":
            return collection.on_reply(device, Reply(run="r", task=f"t-{device}", ok=False, reason="no"), now)
        case "chunk" | "torn":
            effects = []
            for data in (GOOD, BAD):
                payload = list(frames(data))[index]
                cut = payload if kind == "chunk" else payload[:100]
                effects += collection.on_chunk(device, object_ref(data).sha256, index, cut, now)
            return effects
        case "tick":
            return collection.on_tick(now)
        case _:
            return collection.abandon([f"t-{device}"], "stopped")


@given(EVENTS)
def test_every_instruction_ends_in_exactly_one_answer(events: list[Event]) -> None:
    """At the deadline at the latest; a device is told only what is kept."""
    collection = Collection("r", Limits(), Pace(offline_grace_ns=5 * SECOND))
    tasks = {f"t-{device}": device for device in DEVICES}
    instructions = [
        Instruction(device, msgspec.structs.replace(TASK, task=task), SENT) for task, device in tasks.items()
    ]
    effects = collection.offer(instructions, 1000 * SECOND, 0)
    for moment, event in enumerate(events):
        effects += happen(collection, event, moment * SECOND)
    effects += collection.on_tick(1000 * SECOND)
    kept: Counter[str] = Counter()
    for effect in effects:
        if isinstance(effect, Keep):
            kept[effect.answer.task] += 1
        if isinstance(effect, SendDone):
            assert kept[effect.done.task] == 1
    assert kept == dict.fromkeys(tasks, 1)
    assert not collection.outstanding(tasks)
