"""Where a version's parent comes from, in one shape for both kinds of job; everything after it is common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnx

from optimize.export import Parameters
from optimize.passes.candidate import PARENT, Candidate, Pass, derived_name
from optimize.passes.quantize import Activations, Quantize
from workloads.base import HubData

_CALIBRATION_WINDOWS = 256


class Report(Protocol):
    """Told of progress: the name of an event and its fields, all JSON."""

    def __call__(self, event: str, /, **fields: object) -> None:
        """Pass on one event; must not raise."""
        ...


@dataclass(frozen=True)
class Recipe:
    """Apply `change` to the candidate called `base`, making one called `name`."""

    name: str
    base: str
    change: Pass


@dataclass(frozen=True)
class Origin:
    """A parent with its companions, and the recipes worth trying on it, bases before what is built on them."""

    parent: Candidate
    eval_graph: onnx.ModelProto
    train_step: onnx.ModelProto
    batch: int
    parameters: Parameters
    recipes: Sequence[Recipe]


def int8_recipes(data: HubData, targets: Sequence[str], base: str = PARENT) -> list[Recipe]:
    """Static int8 of `base` for each target, calibrated on evenly spread inputs of the hub's training data."""
    calibration = _evenly_spread(data.train.x, _CALIBRATION_WINDOWS)
    return [
        Recipe(derived_name(base, activations.label), base, Quantize(calibration, activations))
        for activations in map(Activations, targets)
    ]


def _evenly_spread(x: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float32]:
    return x[np.linspace(0, len(x) - 1, min(count, len(x))).astype(np.int64)]
