"""The watch file is a pickle from outside: only arrays come out of it, whatever it holds."""

import io
import pickle
from typing import Any

import numpy as np
import pytest
from numpy.lib import format as npy

from workloads.base import DataError
from workloads.watch.recordings import CHANNELS, EXERCISES, parse_recordings


class _Evil:
    """Pickles as a call of a function that must never be called."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('the pickle ran code')",))


def table() -> dict[str, Any]:
    """A small but well-formed table: 140 recordings of 200 samples."""
    rows = [(person, side, exercise) for person in range(1, 11) for side in (1, 0) for exercise in range(7)]
    subject, side, exercise = zip(*rows, strict=True)
    return {
        "subject": np.array(subject),
        "side": np.array(side, dtype=float),
        "y": np.array(exercise),
        "X": [np.full((200, 6), float(index)) for index in range(140)],
        "X_labels": list(CHANNELS),
        "y_labels": list(EXERCISES),
    }


def npy_bytes(content: object) -> bytes:
    """The bytes numpy writes for one pickled object."""
    stream = io.BytesIO()
    boxed = np.empty((), dtype=object)
    boxed[()] = content
    npy.write_array(stream, boxed, version=(1, 0))
    return stream.getvalue()


def test_a_well_formed_table_is_read_in_order() -> None:
    """Recordings come by person, arm and exercise, as float32."""
    recordings = parse_recordings(npy_bytes(table()))
    assert len(recordings) == 140
    first, eighth = recordings[0], recordings[7]
    assert (first.person, first.arm, first.exercise, eighth.arm) == (1, "right", 0, "left")
    assert first.samples.dtype == np.float32


def test_a_pickle_that_would_run_code_is_refused() -> None:
    """And the code did not run: SystemExit would pass through."""
    with pytest.raises(DataError, match=r"asks for builtins\.exec"):
        parse_recordings(npy_bytes({**table(), "X": _Evil()}))


def with_nan() -> dict[str, Any]:
    """A table in which one sample is not a number."""
    broken = table()
    broken["X"][3][5, 2] = np.nan
    return broken


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "cannot be read"),
        (npy_bytes(table())[:-500], "cannot be read"),
        (b"\x93NUMPY\x01\x00" + pickle.dumps(1), "cannot be read|single pickled object"),
        (npy_bytes([1, 2]), "table of columns"),
        (npy_bytes({**table(), "X_labels": ["ax"]}), "must have channels"),
        (npy_bytes({**table(), "X": table()["X"][:-1]}), "140 recordings"),
        (npy_bytes({**table(), "side": np.full(140, 2.0)}), "side"),
        (npy_bytes({**table(), "y": np.zeros(140, dtype=int)}), "every exercise once"),
        (npy_bytes({**table(), "X": [np.zeros((200, 5))] * 140}), r"\[time, 6\]"),
        (npy_bytes(with_nan()), "finite"),
    ],
)
def test_other_data_is_refused_with_its_reason(data: bytes, said: str) -> None:
    """Another version of the file must not train a model unnoticed."""
    with pytest.raises(DataError, match=said):
        parse_recordings(data)
