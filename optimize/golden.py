"""Choosing golden inputs, and writing down what each variant answers to them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from optimize.session import Session
from wire.golden import INPUTS, logits_name
from workloads.base import Examples

COUNT = 32
TOLERANCE: Mapping[str, float] = {"fp32": 1e-3, "fp16": 1e-2, "int8": 5e-2}
"""By precision: the largest |delta logit| between hub and device, as a share of the range of the logits."""

Halves = npt.NDArray[np.float16]


def choose_inputs(parent: Session, data: Examples, count: int = COUNT) -> Halves:
    """`count` inputs float16 [count, ...] on which the parent is right by a clear margin, classes in turn.

    Margins are taken on the rounded values. Where the parent is right less than `count` times, the clearest others
    follow, so that a poor parent still gets its vectors.
    """
    rounded = data.x.astype(np.float16)
    logits = parent.predict(rounded.astype(np.float32))
    top = np.sort(logits, axis=1)
    margin = top[:, -1] - top[:, -2]
    right = logits.argmax(axis=1) == data.y
    by_margin = np.lexsort((-margin, ~right))
    rank_in_class = np.zeros(len(data), dtype=np.int64)
    for label in np.unique(data.y):
        members = by_margin[data.y[by_margin] == label]
        rank_in_class[members] = np.arange(len(members))
    chosen = np.lexsort((-margin, rank_in_class, ~right))[:count]
    result: Halves = rounded[np.sort(chosen)]
    return result


def golden_file(inputs: Halves, sessions: Mapping[str, Session]) -> bytes:
    """The safetensors file of `wire.golden`: the inputs, and the logits each variant gives for them one by one."""
    tensors: dict[str, npt.NDArray[np.generic]] = {INPUTS: inputs}
    for name, session in sessions.items():
        tensors[logits_name(name)] = session.predict(inputs.astype(np.float32), batch=1)
    data: bytes = save(tensors)
    return data
