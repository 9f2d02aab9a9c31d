"""Arrays of a message as one safetensors object: the key of an array is "{record name}/{array name}".

Both sides use this module: the device without flwr, the aggregator to translate from and to Flower's records.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from wire.errors import MalformedError
from wire.federated import Record, Value

Array = NDArray[np.generic]
Arrays = dict[str, Array]
"""Arrays of one record, in order."""

CONFIG = "config"
"""Name of the record with the settings of a task."""
ARRAYS = "arrays"
"""Name of the record with the model's parameters."""
METRICS = "metrics"
"""Name of the record with the figures of a reply."""


def to_object(records: Mapping[str, Mapping[str, Array]]) -> bytes:
    """Serialise records of arrays. The same arrays always give the same bytes, hence the same digest.

    Raises:
        ValueError: a record's name holds a "/" or an array is not numeric.
    """
    flat: Arrays = {}
    for record, arrays in records.items():
        if "/" in record:
            raise ValueError(f"record name {record!r} must not hold a '/'")
        flat.update({f"{record}/{name}": array for name, array in arrays.items()})
    return save_arrays(flat)


def from_object(data: bytes, records: Iterable[Record]) -> dict[str, Arrays]:
    """Take an object apart into the array records that `records` announces, keys in their order.

    Raises:
        MalformedError: not a safetensors object, or its keys are not exactly the announced ones.
    """
    flat = load_arrays(data)
    out: dict[str, Arrays] = {}
    for record in records:
        if record.kind == "arrays":
            out[record.name] = {name: _take(flat, f"{record.name}/{name}") for name in record.keys}
    if flat:
        raise MalformedError(f"the object holds an array that was not announced: {sorted(flat)[0][:80]!r}")
    return out


def save_arrays(arrays: Mapping[str, Array]) -> bytes:
    """Serialise named arrays as a safetensors object.

    Raises:
        ValueError: an array is not numeric.
    """
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise ValueError(f"array {name!r} has dtype {array.dtype}, which cannot travel")
    return save({name: np.asarray(array, order="C") for name, array in arrays.items()})


def load_arrays(data: bytes) -> Arrays:
    """Parse a safetensors object.

    Raises:
        MalformedError: it is not one.
    """
    try:
        return dict(load(data))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise MalformedError(f"not a readable safetensors object: {error}") from error


def values(records: Iterable[Record], name: str) -> dict[str, Value]:
    """The values of the config or metrics record called `name`; empty when there is none."""
    return next((dict(record.values) for record in records if record.name == name), {})


def _take(flat: Arrays, key: str) -> Array:
    try:
        return flat.pop(key)
    except KeyError:
        raise MalformedError(f"the object lacks the announced array {key[:80]!r}") from None
