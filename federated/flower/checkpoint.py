"""The state of a strategy as bytes: every attribute that is a value, arrays bit for bit. No pickle.

Flower's strategies keep their state (momentum, second moments, clipping norms) as plain attributes and know nothing of
checkpoints. Functions among the attributes stay as the constructor made them; wrapped strategies are followed.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp.strategy import Strategy

from federated.flower.convert import array_record, ndarrays
from federated.records import Array, load_arrays, save_arrays

Node = list[Any]
"""[tag, payload]: a JSON tree whose arrays lie beside it, by number."""


class CheckpointError(Exception):
    """An attribute of a strategy is of a kind that cannot be stored."""


class State(msgspec.Struct, frozen=True):
    """A strategy's state: the tree as JSON and its arrays as a safetensors object."""

    tree: bytes
    arrays: bytes


def dump(strategy: Strategy) -> State:
    """The state of `strategy`.

    Raises:
        CheckpointError: names the attribute that cannot be stored.
    """
    arrays: list[Array] = []
    tree = _dump_attributes(strategy, arrays)
    return State(msgspec.json.encode(tree), save_arrays({str(index): array for index, array in enumerate(arrays)}))


def restore(strategy: Strategy, state: State) -> None:
    """Give `strategy`, constructed as before, the state that was dumped."""
    _restore_attributes(strategy, msgspec.json.decode(state.tree), load_arrays(state.arrays))


def _dump_attributes(strategy: Strategy, arrays: list[Array]) -> Node:
    fields: dict[str, Node] = {}
    for name, value in vars(strategy).items():
        if not callable(value):
            try:
                fields[name] = _dump(value, arrays)
            except CheckpointError as error:
                raise CheckpointError(f"{type(strategy).__name__}.{name}: {error}") from error
    return ["strategy", fields]


def _dump(value: object, arrays: list[Array]) -> Node:  # noqa: C901 - one line per kind of value
    match value:
        case None | bool() | str():
            return ["plain", value]
        case np.generic():
            return ["scalar", _keep(np.asarray(value), arrays)]
        case int():
            return ["int", str(value)]
        case float():
            return ["float", value.hex()]
        case np.ndarray():
            return ["array", _keep(value, arrays)]
        case ArrayRecord():
            return ["arrays", {name: _keep(array, arrays) for name, array in ndarrays(value).items()}]
        case MetricRecord() | ConfigRecord():
            kind = "metrics" if isinstance(value, MetricRecord) else "config"
            return [kind, {key: _dump(one, arrays) for key, one in value.items()}]
        case Strategy():
            return _dump_attributes(value, arrays)
        case Mapping():
            return ["dict", [[_dump(key, arrays), _dump(one, arrays)] for key, one in value.items()]]
        case list() | tuple():
            return ["list" if isinstance(value, list) else "tuple", [_dump(one, arrays) for one in value]]
        case _:
            raise CheckpointError(f"a {type(value).__name__} cannot be stored")


def _keep(array: Array, arrays: list[Array]) -> int:
    arrays.append(array)
    return len(arrays) - 1


def _restore_attributes(strategy: Strategy, node: Node, arrays: Mapping[str, Array]) -> None:
    for name, child in node[1].items():
        if child[0] == "strategy":
            _restore_attributes(getattr(strategy, name), child, arrays)
        else:
            setattr(strategy, name, _load(child, arrays))


def _load(node: Node, arrays: Mapping[str, Array]) -> Any:  # noqa: C901 - one line per kind of value
    tag, body = node
    match tag:
        case "plain":
            return body
        case "scalar":
            return arrays[str(body)][()]
        case "int":
            return int(body)
        case "float":
            return float.fromhex(body)
        case "array":
            return arrays[str(body)]
        case "arrays":
            return array_record({name: arrays[str(index)] for name, index in body.items()})
        case "metrics":
            return MetricRecord({key: _load(one, arrays) for key, one in body.items()})
        case "config":
            return ConfigRecord({key: _load(one, arrays) for key, one in body.items()})
        case "dict":
            return {_load(key, arrays): _load(one, arrays) for key, one in body}
        case "list":
            return [_load(one, arrays) for one in body]
        case "tuple":
            return tuple(_load(one, arrays) for one in body)
        case _:
            raise CheckpointError(f"unknown entry {tag!r} in a checkpoint")
