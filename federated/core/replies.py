"""What a reply must be before a strategy sees it. Flower validates nothing of this, and one bad reply ends its run.

`check_offer` judges the announcement before a byte of the update is pulled, `check_update` the arrays themselves. Both
return the reason for a refusal, or "".
"""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from federated.records import METRICS, Array
from wire.federated import Record, Reply, Task, Value

EXAMPLES: Final = "num-examples"
ACCURACY: Final = "eval-acc"
TRAIN: Final = "train"
EVALUATE: Final = "evaluate"
EXPECTED_METRICS: Final[dict[str, frozenset[str]]] = {
    TRAIN: frozenset({EXAMPLES, "train-loss"}),
    EVALUATE: frozenset({EXAMPLES, ACCURACY, "eval-loss"}),
}

HEADER_SLACK_BYTES: Final = 64 * 1024
"""How much larger than the instruction's object an update's may be: it holds the same arrays."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what one device may contribute."""

    max_examples: int = 100_000
    """Weight cap: a device declares its own num-examples, and 1e9 would take over the average."""
    max_update_ratio: float = 10.0
    """Bound on |update - sent| as a multiple of 1 + |sent| (L2 norms over all arrays)."""


def check_offer(task: Task, reply: Reply, limits: Limits) -> str:
    """Does the reply have the records that this task asks for, with sane figures and an object of sane size?"""
    expected = EXPECTED_METRICS.get(base_kind(task.kind))
    if expected is None:
        return f"there is no rule for replies to {task.kind[:64]!r}"
    return _check_metrics(reply, expected, limits) or _check_announced_arrays(task, reply)


def check_update(sent: Mapping[str, Array], got: Mapping[str, Array], limits: Limits) -> str:
    """Do the arrays have the names, shapes and dtypes that were sent, and are they finite and within the norm bound?"""
    if set(got) != set(sent):
        return f"wrong keys: {_some(set(got) ^ set(sent))} should not differ from the instruction"
    for name, array in got.items():
        problem = _check_array(name, sent[name], array)
        if problem:
            return problem
    return _check_norm(sent, got, limits)


def base_kind(kind: str) -> str:
    """Flower lets a message type carry a suffix ("train.warmup"); what counts stands before the point."""
    return kind.partition(".")[0]


def _check_metrics(reply: Reply, expected: frozenset[str], limits: Limits) -> str:
    metrics = [record for record in reply.records if record.kind == "metrics"]
    if len(metrics) != 1 or metrics[0].name != METRICS:
        return f"wrong records: expected one metrics record called {METRICS!r}"
    figures = metrics[0].values
    if set(figures) != expected:
        return f"wrong metrics: {_some(set(figures) ^ expected)} missing or not expected"
    for name, value in figures.items():
        if not _finite_number(value):
            return f"metric {name!r} is not a finite number"
    accuracy = figures.get(ACCURACY, 0)
    if not (isinstance(accuracy, int | float) and 0 <= accuracy <= 1):
        return f"metric {ACCURACY!r} must lie between 0 and 1"
    return _check_weight(figures[EXAMPLES], limits)


def _check_weight(examples: Value, limits: Limits) -> str:
    if not isinstance(examples, int) or examples < 1:
        return f"{EXAMPLES} must be a positive whole number"
    if examples > limits.max_examples:
        return f"{EXAMPLES} {examples} exceeds the weight cap of {limits.max_examples}"
    return ""


def _check_announced_arrays(task: Task, reply: Reply) -> str:
    if any(record.kind == "config" for record in reply.records):
        return "wrong records: a reply carries no config"
    wanted = _array_keys(task.records) if base_kind(task.kind) == TRAIN else {}
    offered = _array_keys(reply.records)
    if offered != wanted:
        return f"wrong keys: expected array records {_some(set(wanted)) or 'none'} with the instruction's keys"
    if (reply.arrays is not None) != bool(wanted):
        return "the update is missing" if wanted else "an object that nobody asked for"
    if reply.arrays is not None and task.arrays is not None:
        limit = task.arrays.bytes + HEADER_SLACK_BYTES
        if reply.arrays.bytes > limit:
            return f"oversize: the update has {reply.arrays.bytes} bytes, at most {limit} allowed"
    return ""


def _array_keys(records: tuple[Record, ...]) -> dict[str, tuple[str, ...]]:
    return {record.name: record.keys for record in records if record.kind == "arrays"}


def _check_array(name: str, sent: Array, got: Array) -> str:
    if got.shape != sent.shape:
        return f"wrong shape: array {name!r} is {got.shape}, expected {sent.shape}"
    if got.dtype != sent.dtype:
        return f"wrong dtype: array {name!r} is {got.dtype}, expected {sent.dtype}"
    if got.dtype.kind == "f" and not np.isfinite(got).all():
        return f"array {name!r} holds NaN or infinity"
    return ""


def _check_norm(sent: Mapping[str, Array], got: Mapping[str, Array], limits: Limits) -> str:
    scale = math.sqrt(sum(_square(array) for array in sent.values()))
    moved = math.sqrt(sum(_square(_float64(array) - _float64(sent[name])) for name, array in got.items()))
    bound = limits.max_update_ratio * (1.0 + scale)
    return f"norm of the update {moved:.4g} exceeds its bound {bound:.4g}" if moved > bound else ""


def _square(array: Array) -> float:
    flat = _float64(array).ravel()
    return float(flat @ flat)


def _float64(array: Array) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return array.astype(np.float64)


def _finite_number(value: Value) -> bool:
    """Whole numbers in JSON know no bound: one beyond a float's range would overflow later."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _some(names: set[str]) -> str:
    return ", ".join(repr(name[:40]) for name in sorted(names)[:3])
