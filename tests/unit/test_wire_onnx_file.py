"""A model is one file: whatever takes data from another is found, wherever in the graph it hides."""

import numpy as np
import pytest
from onnx import FunctionProto, ModelProto, SparseTensorProto, TensorProto, helper

from bench.damaged_models.structures import damaged
from tests.worlds.agent_world import onnx_model
from wire.errors import MalformedError
from wire.onnx_file import takes_other_files

PLAIN = onnx_model(1)


def external(name: str = "w") -> TensorProto:
    """A tensor whose data is elsewhere."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4, 3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="neighbour")
    return tensor


def in_initializer(model: ModelProto) -> None:
    """The usual place."""
    model.graph.initializer.append(external())


def in_constant(model: ModelProto) -> None:
    """In an attribute of a node."""
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=external()))


def in_branch(model: ModelProto) -> None:
    """In a graph within a graph within a graph."""
    graph = helper.make_graph([], "leaf", [], [], [external()])
    for _ in range(5):
        graph = helper.make_graph([helper.make_node("If", ["x"], ["y"], then_branch=graph)], "level", [], [])
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], else_branch=graph))


def in_function(model: ModelProto) -> None:
    """In a function of the model's own."""
    function = FunctionProto(name="f", domain="own")
    function.node.append(helper.make_node("Constant", [], ["c"], value=external()))
    model.functions.append(function)


def in_sparse_tensor(model: ModelProto) -> None:
    """In the values of a sparse tensor."""
    model.graph.sparse_initializer.append(SparseTensorProto(values=external()))


def in_training_graph(model: ModelProto) -> None:
    """In a graph that is only for training."""
    model.training_info.add().algorithm.initializer.append(external())


def by_location_alone(model: ModelProto) -> None:
    """Without saying where."""
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


def by_entries_alone(model: ModelProto) -> None:
    """Without the mark: some runtime may look at the entries first."""
    model.graph.initializer[0].external_data.add(key="location", value="neighbour")


HIDING = (
    *(in_initializer, in_constant, in_branch, in_function, in_sparse_tensor, in_training_graph),
    *(by_location_alone, by_entries_alone),
)


@pytest.mark.parametrize("hide", HIDING, ids=lambda hide: hide.__name__)
def test_data_in_another_file_is_found(hide: object) -> None:
    """Wherever the tensor stands."""
    model = ModelProto.FromString(PLAIN)
    hide(model)  # type: ignore[operator]
    assert takes_other_files(model.SerializeToString())


def test_a_model_that_is_one_file_takes_no_other() -> None:
    """Also one that says so of every tensor."""
    assert not takes_other_files(PLAIN)
    model = ModelProto.FromString(PLAIN)
    model.graph.initializer[0].data_location = TensorProto.DEFAULT
    assert not takes_other_files(model.SerializeToString())


@pytest.mark.parametrize("data", [b"\xff" * 20, PLAIN[:-7], b"\x3a\x7f\x00", b"\x0b"], ids=range(4))
def test_what_is_no_message_is_refused(data: bytes) -> None:
    """Cut off, beyond its own end, or of a wire type that ONNX does not use."""
    with pytest.raises(MalformedError, match="ONNX file"):
        takes_other_files(data)


def test_nesting_has_an_end() -> None:
    """Graphs nested deeper than protobuf itself allows are refused, not followed."""
    data = b""
    for level in range(399):
        tag = (b"\x32", b"\x2a", b"\x0a")[level % 3]  # from within: a graph, in an attribute, of a node, and again
        data = tag + _varint(len(data)) + data
    with pytest.raises(MalformedError, match="nested deeper"):
        takes_other_files(b"\x3a" + _varint(len(data)) + data)


def test_it_agrees_with_onnx_on_damaged_models() -> None:
    """Hundreds of damaged models: the walk finds what onnx's own reader finds."""
    from random import Random

    rng, seen = Random(3), {True: 0, False: 0}
    for _ in range(300):
        model = damaged(PLAIN, rng)
        proto = ModelProto.FromString(model)
        tensors = [*proto.graph.initializer, *(one.t for node in proto.graph.node for one in node.attribute)]
        expected = any(one.external_data or one.data_location for one in tensors)
        assert takes_other_files(model) == expected
        seen[expected] += 1
    assert min(seen.values()) > 10


def _varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes(np.array([value], np.uint8))
