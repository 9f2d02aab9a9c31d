"""Attacks with federated updates: a hostile device among honest ones wants to spoil the mean that everybody gets."""

import hashlib
import pickle
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load, save

from bench.attack_cases.attack import Attack, Outcome
from bench.replacing import replaced, together
from federated import records
from federated.core import collection
from federated.core.collection import Collection, Effect, Keep, Pace
from federated.core.issue import Answer, Instruction, Verdict
from federated.core.replies import EXAMPLES, Limits, check_offer, check_update
from federated.records import ARRAYS, METRICS, Array
from wire.federated import Record, Reply, Task, Value
from wire.release import ObjectRef, object_ref
from wire.transfer.chunks import frames

Floats = npt.NDArray[np.float32]
ROW = "poisoned federated updates"
HONEST = ("p01", "p02", "p03")
THIEF = "p04"
SENT: dict[str, Floats] = {"w": np.full((8, 4), 0.5, np.float32), "b": np.zeros(4, np.float32)}
DISTANCE = 1.0
"""Honest devices move every weight by a tenth; a mean further away than this is spoiled."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a device answers: the bytes of its update, the array keys it announces, and how many examples it claims."""

    data: bytes
    keys: tuple[str, ...] = ("w", "b")
    examples: int = 50
    ref: ObjectRef | None = None
    """What it says of the bytes, if that is not the truth."""


def honest(number: int) -> Offer:
    """A small step."""
    rng = np.random.default_rng(number)
    moved = {name: array + rng.uniform(0, 0.1, array.shape).astype(np.float32) for name, array in SENT.items()}
    return Offer(_saved(moved))


def _saved(arrays: Mapping[str, Array]) -> bytes:
    data: bytes = save({f"{ARRAYS}/{name}": array for name, array in arrays.items()})
    return data


def tried(offer: Callable[[], Offer]) -> Callable[[], Outcome]:
    """One round with the hostile offer in it: is the mean of what was accepted spoiled, or the round itself?"""

    def attempt() -> Outcome:
        answers = {device: _answered(device, honest(number)) for number, device in enumerate(HONEST)}
        try:
            answers[THIEF] = _answered(THIEF, offer())
            mean = _mean(list(answers.values()))
        except Exception as error:  # whatever ends the round is what the attacker wanted
            return Outcome(True, f"the round ended with {type(error).__name__}: {error}")
        far = max(float(np.abs(mean[name] - SENT[name]).max()) for name in SENT)
        return Outcome(not far < DISTANCE, answers[THIEF].reason)

    return attempt


def _answered(device: str, offer: Offer) -> Answer:
    """The hub's conversation with one device."""
    ref = offer.ref or object_ref(offer.data)
    values: dict[str, Value] = {EXAMPLES: offer.examples, "train-loss": 0.25}
    told = (Record(name=ARRAYS, kind="arrays", keys=offer.keys), Record(name=METRICS, kind="metrics", values=values))
    run = Collection("run", Limits(), Pace())
    run.on_status(device, True, 0)
    run.offer([Instruction(device, _task(device), SENT)], 1 << 40, 0)
    effects = run.on_reply(device, Reply(run="run", task=f"task-{device}", ok=True, records=told, arrays=ref), 1)
    for index, payload in enumerate(frames(offer.data)):
        effects += run.on_chunk(device, ref.sha256, index, payload, 2)
    return _kept(effects)


def _task(device: str) -> Task:
    return Task(
        run="run",
        task=f"task-{device}",
        kind="train",
        round=1,
        model="watch",
        version=1,
        records=(Record(name=ARRAYS, kind="arrays", keys=tuple(SENT)),),
        arrays=object_ref(_saved(SENT)),
    )


def _kept(effects: list[Effect]) -> Answer:
    return next(effect.answer for effect in effects if isinstance(effect, Keep))


def _mean(answers: list[Answer]) -> dict[str, npt.NDArray[np.float64]]:
    """As a plain weighted mean has it."""
    accepted = [one for one in answers if one.verdict is Verdict.ACCEPTED]
    total, summed = 0, {name: np.zeros(array.shape) for name, array in SENT.items()}
    for one in accepted:
        assert one.reply is not None
        weight = int(str(one.reply.records[1].values[EXAMPLES]))
        got = records.from_object(one.arrays, one.reply.records)[ARRAYS]
        summed = {name: array + weight * got[name].astype(np.float64) for name, array in summed.items()}
        total += weight
    return {name: array / total for name, array in summed.items()}


# Offers.


def _with(value: float) -> Offer:
    bad = {name: array.copy() for name, array in SENT.items()}
    bad["w"][3, 1] = value
    return Offer(_saved(bad))


def _scaled() -> Offer:
    return Offer(_saved({name: array * 1000 + 1000 for name, array in SENT.items()}))


def _shaped() -> Offer:
    return Offer(_saved({"w": np.full((4, 4), 9.0, np.float32), "b": SENT["b"]}))


def _typed() -> Offer:
    return Offer(_saved({"w": (SENT["w"] * 0 + 60_000).astype(np.int32), "b": SENT["b"]}))


def _renamed() -> Offer:
    return Offer(_saved({"w": SENT["w"], "c": SENT["b"]}), keys=("w", "c"))


def _heavy() -> Offer:
    """Within the norm bound, and with the weight of a million devices."""
    return Offer(_saved({name: array + 2.0 for name, array in SENT.items()}), examples=10**9)


def _oversize() -> Offer:
    return Offer(_saved({"w": np.full((1000, 500), 7.0, np.float32), "b": SENT["b"]}))


def _other_bytes() -> Offer:
    """The bytes of one update under the digest of another: without chunk digests, only the whole one tells."""
    real = _saved({name: array + 5.0 for name, array in SENT.items()})
    ref = ObjectRef(sha256=hashlib.sha256(honest(9).data).hexdigest(), bytes=len(real))
    return Offer(real, ref=ref)


class _Bomb:
    """Runs code wherever it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return (_went_off, ("code of the attacker ran",))


class WentOffError(Exception):
    """The pickle was loaded."""


def _went_off(message: str) -> object:
    raise WentOffError(message)


def _pickled() -> Offer:
    return Offer(pickle.dumps(_Bomb()))


# Guards, taken away.


def _anything_goes() -> AbstractContextManager[None]:
    """Nobody looks at the offer or at the update."""
    return together(
        replaced(collection, check_offer=lambda task, reply, limits: ""),
        replaced(collection, check_update=lambda sent, got, limits: ""),
    )


def _unbounded() -> AbstractContextManager[None]:

    def check(sent: dict[str, Array], got: dict[str, Array], limits: Limits) -> str:
        return check_update(sent, got, Limits(max_update_ratio=float("inf")))

    return replaced(collection, check_update=check)


def _unweighed() -> AbstractContextManager[None]:
    return replaced(
        collection, check_offer=lambda task, reply, limits: check_offer(task, reply, Limits(max_examples=10**12))
    )


def _undigested() -> AbstractContextManager[None]:
    problem = Collection._problem

    def unchecked(self: Collection, flight: object, ref: ObjectRef, data: bytes) -> str:
        return problem(self, flight, object_ref(data), data)  # type: ignore[arg-type]

    return replaced(Collection, _problem=unchecked)


def _unpickling() -> AbstractContextManager[None]:
    return replaced(records, load=lambda data: load(data) if data[8:9] == b"{" else pickle.loads(data))  # noqa: S301


UPDATE, OFFER = "check of the update", "check of the offer"
ATTACKS = (
    Attack("update with NaN", ROW, UPDATE, "NaN or infinity", tried(lambda: _with(np.nan)), _anything_goes),
    Attack("update with infinity", ROW, UPDATE, "NaN or infinity", tried(lambda: _with(np.inf)), _anything_goes),
    Attack("update of another shape", ROW, UPDATE, "wrong shape", tried(_shaped), _anything_goes),
    Attack("update of another dtype", ROW, UPDATE, "wrong dtype", tried(_typed), _anything_goes),
    Attack("update with other names", ROW, OFFER, "wrong keys", tried(_renamed), _anything_goes),
    Attack("update a thousand times too long", ROW, "norm bound", "exceeds its bound", tried(_scaled), _unbounded),
    Attack("update with the weight of a million devices", ROW, "weight cap", "weight cap", tried(_heavy), _unweighed),
    Attack("update much larger than the model", ROW, OFFER, "oversize", tried(_oversize), _anything_goes),
    Attack("update under another digest", ROW, "digest of the update", "digest", tried(_other_bytes), _undigested),
    Attack("pickle for an update", "pickle in checkpoints", "arrays are safetensors", "not a readable safetensors",
           tried(_pickled), _unpickling),
)  # fmt: skip
