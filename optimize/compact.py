"""Making an ONNX file no larger than it must be: the same graph, without what only a person reading it would miss.

Goes: documentation, tracing metadata, names of nodes, inferred shapes, long names of intermediate values. Stays: names
of inputs and outputs, every operator, every byte of every weight.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import AttributeProto, GraphProto, ModelProto


def compact(model: ModelProto) -> ModelProto:
    """A copy of `model` without baggage. It computes bit for bit the same."""
    result = ModelProto()
    result.CopyFrom(model)
    del result.metadata_props[:], result.functions[:]
    result.doc_string = result.producer_version = result.domain = ""
    result.producer_name = "fleetloop"
    _keep_used_domains(result)
    _shorten_names(result.graph)
    for graph in graphs(result.graph):
        del graph.metadata_props[:], graph.value_info[:]
        graph.doc_string = ""
        graph.name = "g"
        for node in graph.node:
            node.name = node.doc_string = ""
            del node.metadata_props[:]
        for value in (*graph.input, *graph.output):
            value.doc_string = ""
            del value.metadata_props[:]
        for tensor in graph.initializer:
            tensor.doc_string = ""
            del tensor.metadata_props[:]
    return result


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """`graph` and every graph inside its nodes (the bodies of Scan, Loop, If)."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from graphs(attribute.g)


def operators(model: ModelProto) -> tuple[str, ...]:
    """The sorted operator types of a model; those outside `ai.onnx` carry their domain, as in `com.x::Op`."""
    found = {
        node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"
        for graph in graphs(model.graph)
        for node in graph.node
    }
    return tuple(sorted(found))


def opset(model: ModelProto) -> int:
    """The version of the standard operator set that a model asks for."""
    return int(next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx")))


def _keep_used_domains(model: ModelProto) -> None:
    used = {node.domain or "" for graph in graphs(model.graph) for node in graph.node}
    kept = [one for one in model.opset_import if one.domain in used or one.domain in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _shorten_names(top: GraphProto) -> None:
    """Rename values to their number. Names at the border of the top graph are its interface and stay."""
    interface = {value.name for value in (*top.input, *top.output)}
    short: dict[str, str] = {name: name for name in interface} | {"": ""}

    def rename(name: str) -> str:
        return short.setdefault(name, f"v{len(short)}")

    for graph in graphs(top):
        for node in graph.node:
            node.input[:] = [rename(name) for name in node.input]
            node.output[:] = [rename(name) for name in node.output]
        for value in (*graph.input, *graph.output, *graph.initializer):
            value.name = rename(value.name)


def check(model: ModelProto) -> ModelProto:
    """The same model, once onnx has found it well formed."""
    onnx.checker.check_model(model, full_check=True)
    return model
