"""ONNX: one file, with data for every tensor that it announces, whose graph the ONNX checker accepts.

The encoding is walked for external data before the ONNX library sees the file; nothing is ever loaded from elsewhere.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any, Final

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, checker, shape_inference

from cloud.inspection.refusal import RefusedError, check_count, check_size, elements, shown
from wire.errors import MalformedError
from wire.onnx_file import takes_other_files

_TYPE: Final = TensorProto.DataType
_BITS: Final = {
    **dict.fromkeys((_TYPE.FLOAT, _TYPE.INT32, _TYPE.UINT32), 32),
    **dict.fromkeys((_TYPE.DOUBLE, _TYPE.INT64, _TYPE.UINT64, _TYPE.COMPLEX64), 64),
    **dict.fromkeys((_TYPE.FLOAT16, _TYPE.BFLOAT16, _TYPE.INT16, _TYPE.UINT16), 16),
    **dict.fromkeys((_TYPE.INT4, _TYPE.UINT4, _TYPE.FLOAT4E2M1), 4),
    _TYPE.COMPLEX128: 128,
}
"""Bits of one element. Types that are missing here have 8."""
_TYPED: Final = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
_STANDARD: Final = ("", "ai.onnx")


def describe(data: bytes) -> dict[str, Any]:
    """Opset, operators (as `wire.release.RuntimeNeeds` names them), inputs and outputs. Raises RefusedError."""
    model = _parsed(data)
    tensors = tuple(_tensors([model.graph, *_training_graphs(model)], model.functions))
    for tensor in tensors:
        _check_tensor(tensor)
    _check_graph(model)
    operators = sorted({_operator(node) for node in _all_nodes(model)})
    check_count("kinds of operators", len(operators))
    return {
        "opset": max((one.version for one in model.opset_import if one.domain in _STANDARD), default=0),
        "operators": operators,
        "inputs": _values(model.graph.input),
        "outputs": _values(model.graph.output),
    }


def _parsed(data: bytes) -> Any:
    try:
        other_files = takes_other_files(data)
        model = onnx.ModelProto.FromString(data)
    except (MalformedError, DecodeError) as error:
        raise RefusedError(f"it is no ONNX, TFLite or safetensors file: {error}") from error
    if not model.graph.node or not model.graph.output:
        raise RefusedError("it is no ONNX, TFLite or safetensors file: as ONNX it would have no graph with an output")
    if other_files:
        named = (entry.value for tensor in _tensors([model.graph], model.functions) for entry in tensor.external_data)
        raise RefusedError(
            f"it takes tensors from other files (external data: {shown(next(named, 'unnamed'))}); a model is one file"
        )
    return model


def _check_tensor(tensor: Any) -> None:
    """The data must be there: a shape alone makes whoever loads it reserve the memory."""
    bits, name = _BITS.get(tensor.data_type, 8), tensor.name
    count = elements(name, tensor.dims)
    if tensor.HasField("raw_data"):
        held, wanted = len(tensor.raw_data), math.ceil(count * bits / 8)
    else:
        held = sum(len(getattr(tensor, field)) for field in _TYPED)
        wanted = math.ceil(count * bits / 8) if bits < 8 else count
        wanted *= 2 if tensor.data_type in (_TYPE.COMPLEX64, _TYPE.COMPLEX128) else 1
    if held != wanted:
        unit = "bytes" if tensor.HasField("raw_data") else "values"
        raise RefusedError(
            f"tensor {shown(name)} of shape {list(tensor.dims)[:8]} needs {wanted} {unit} and has {held}"
        )


def _check_graph(model: Any) -> None:
    try:
        checker.check_model(model)
        inferred = shape_inference.infer_shapes(model, data_prop=True)
    except (checker.ValidationError, shape_inference.InferenceError, ValueError, RuntimeError) as error:
        lines = str(error).strip().splitlines()
        raise RefusedError(f"its graph is no valid ONNX: {lines[0][:300] if lines else 'no reason given'}") from error
    for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
        tensor = value.type.tensor_type
        known = [one.dim_value for one in tensor.shape.dim if one.HasField("dim_value")]
        check_size(value.name, known, _BITS.get(tensor.elem_type, 8))


def _training_graphs(model: Any) -> Iterator[Any]:
    for training in model.training_info:
        yield training.initialization
        yield training.algorithm


def _all_nodes(model: Any) -> Iterator[Any]:
    yield from _nodes([model.graph, *_training_graphs(model)])
    for function in model.functions:
        yield from function.node
        yield from _nodes(graph for node in function.node for graph in _subgraphs(node))


def _nodes(graphs: Iterable[Any]) -> Iterator[Any]:
    waiting = list(graphs)
    while waiting:
        graph = waiting.pop()
        yield from graph.node
        waiting += [inner for node in graph.node for inner in _subgraphs(node)]


def _subgraphs(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _tensors(graphs: Iterable[Any], functions: Iterable[Any]) -> Iterator[Any]:
    """Every tensor with data, wherever it hides."""
    waiting = list(graphs)
    nodes = [node for function in functions for node in function.node]
    while waiting or nodes:
        if nodes:
            yield from _attribute_tensors(nodes[-1])
            waiting += _subgraphs(nodes.pop())
            continue
        graph = waiting.pop()
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from _sparse(sparse)
        nodes += graph.node


def _attribute_tensors(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for sparse in (*([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
                       *attribute.sparse_tensors):  # fmt: skip
            yield from _sparse(sparse)


def _sparse(sparse: Any) -> Iterator[Any]:
    check_size(sparse.values.name, sparse.dims, _BITS.get(sparse.values.data_type, 8))
    yield sparse.values
    yield sparse.indices


def _operator(node: Any) -> str:
    return str(node.op_type) if node.domain in _STANDARD else f"{node.domain}::{node.op_type}"


def _values(values: Any) -> list[dict[str, Any]]:
    """Names and shapes; -1 is a dimension that is free."""
    check_count("inputs or outputs", len(values))
    return [
        {
            "name": one.name,
            "shape": [dim.dim_value if dim.HasField("dim_value") else -1 for dim in one.type.tensor_type.shape.dim],
            "dtype": _dtype(one.type.tensor_type.elem_type),
        }
        for one in values
    ]


def _dtype(number: int) -> str:
    known = _TYPE.Name(number).lower() if number in _TYPE.values() else "unknown"
    return {"float": "float32", "double": "float64"}.get(known, known)
