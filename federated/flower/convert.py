"""Flower's records to wire records and back, without Flower's own serialisation.

Arrays travel in the model's dtypes: some strategies compute in float64 (FedAdam), and doubling the bytes would tell the
devices nothing. The strategy goes on with its own values.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from federated.records import Array, Arrays, from_object
from wire.federated import Record, Reply, Value

Dtypes = Mapping[str, np.dtype[np.generic]]
"""Array name -> dtype in which it travels; other arrays keep theirs."""


class UnsupportedRecordError(ValueError):
    """A strategy sends what the wire contract cannot carry."""


def to_records(content: RecordDict, dtypes: Dtypes) -> tuple[tuple[Record, ...], dict[str, Arrays]]:
    """Wire records and, per array record, its arrays in order.

    Raises:
        UnsupportedRecordError: a config value is of bytes, which control documents do not carry.
    """
    records: list[Record] = []
    arrays: dict[str, Arrays] = {}
    for name, record in content.items():
        if isinstance(record, ArrayRecord):
            arrays[name] = {key: _in_dtype(array.numpy(), dtypes.get(key)) for key, array in record.items()}
            records.append(Record(name=name, kind="arrays", keys=tuple(arrays[name])))
        else:
            values = {key: _value(name, key, value) for key, value in record.items()}
            records.append(Record(name=name, kind=_kind(record), values=values))
    return tuple(records), arrays


def to_content(reply: Reply, data: bytes) -> RecordDict:
    """Flower's content of a reply that passed the checks. `data`: its arrays object, empty when it has none."""
    arrays = from_object(data, reply.records) if data else {}
    content = RecordDict()
    for record in reply.records:
        match record.kind:
            case "arrays":
                content[record.name] = array_record(arrays[record.name])
            case "metrics":
                content[record.name] = MetricRecord(_untyped(record.values))
            case "config":
                content[record.name] = ConfigRecord(_untyped(record.values))
    return content


def array_record(arrays: Mapping[str, Array]) -> ArrayRecord:
    """Named arrays as Flower's record."""
    return ArrayRecord({name: FlowerArray(array) for name, array in arrays.items()})


def ndarrays(record: ArrayRecord) -> Arrays:
    """Flower's record as named arrays, in the strategy's own dtypes."""
    return {name: array.numpy() for name, array in record.items()}


def _kind(record: MetricRecord | ConfigRecord) -> Literal["metrics", "config"]:
    return "metrics" if isinstance(record, MetricRecord) else "config"


def _untyped(values: Mapping[str, Value]) -> dict[str, Any]:
    """Flower checks the types of values itself."""
    return dict(values)


def _in_dtype(array: Array, dtype: np.dtype[np.generic] | None) -> Array:
    return array if dtype is None or array.dtype == dtype else array.astype(dtype)


def _value(record: str, key: str, value: object) -> Value:
    if isinstance(value, bytes) or (isinstance(value, list) and any(isinstance(one, bytes) for one in value)):
        raise UnsupportedRecordError(f"record {record!r}: {key!r} is of bytes; send it as an array instead")
    return value  # type: ignore[return-value]  # Flower's records hold int, float, str, bool and lists of them
