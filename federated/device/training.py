"""What training on a device starts from and comes to, whatever runs it: which windows, in which order, which result.

Everything random follows from the seed of the task, the round and the device's name.
"""

import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federated.records import Arrays

GAP: Final = 1
"""Windows left out between training and holdout: neighbouring windows overlap by half."""

Indices = NDArray[np.int64]


class TrainingError(Exception):
    """Training or evaluation cannot give a result; the message is the reason that the cloud is told."""


class DivergedError(TrainingError):
    """The numbers left the finite ones."""


class CancelledError(TrainingError):
    """The task is no longer wanted."""


@dataclass(frozen=True, slots=True)
class Split:
    """Positions of the windows to train on and of those to judge by."""

    train: Indices
    holdout: Indices


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train: epochs over the local windows, learning rate, momentum; batches are drawn from `seed`."""

    epochs: int
    lr: float
    momentum: float
    seed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Trained:
    """New parameters, the number of distinct windows behind them, and the mean loss over the last epoch."""

    parameters: Arrays
    examples: int
    loss: float


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Accuracy and mean cross-entropy over the holdout."""

    examples: int
    accuracy: float
    loss: float


def split(labels: Indices, holdout_share: float) -> Split:
    """Hold out the last share of every label's windows in capture order, leaving a gap of one window before them.

    Labels with fewer than three windows are trained on whole.
    """
    train, holdout = [], []
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        held = max(1, round(len(places) * holdout_share)) if len(places) > GAP + 1 and holdout_share > 0 else 0
        kept = len(places) - held - GAP if held else len(places)
        train.append(places[: max(0, kept)])
        holdout.append(places[len(places) - held :])
    empty = np.empty(0, np.int64)
    return Split(np.sort(np.concatenate([empty, *train])), np.sort(np.concatenate([empty, *holdout])))


def seed_of(device: str, seed: int, round_number: int) -> tuple[int, ...]:
    """The same device draws the same batches in the same round; another device or round draws others."""
    return (seed & 0xFFFFFFFF, round_number, zlib.crc32(device.encode()))


def batches(train: Indices, batch: int, rng: np.random.Generator) -> Indices:
    """One epoch: [K, batch] positions, shuffled; the last batch is filled up from the beginning."""
    order = rng.permutation(train)
    steps = -(-len(order) // batch)
    return np.resize(order, steps * batch).reshape(steps, batch)
