"""K local steps in one run: the graph of one step becomes the body of a Scan over the batches' indices.

The device hands over its whole local data once, and an index matrix that says which samples make up each batch. The
body gathers them. This costs nothing against single steps and gives bit for bit the same parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper


def scan_over_batches(step: ModelProto, state: Sequence[str], batch: int) -> ModelProto:
    """Wrap a step graph (inputs: `state`, then x, y, lr, mu; outputs: new `state`, then loss) into K steps.

    The result has inputs `in.<state>`, X [N, ...], Y [N], idx [K, batch], lr, mu and outputs `out.<state>`, losses [K].
    """
    inputs = {value.name: value for value in step.graph.input}
    carried = [inputs[name] for name in state]
    rates = [inputs["lr"], inputs["mu"]]
    sample = [dimension.dim_value for dimension in inputs["x"].type.tensor_type.shape.dim][1:]
    scan = helper.make_node(
        "Scan",
        [f"in.{name}" for name in state] + ["idx"],
        [f"out.{name}" for name in state] + ["losses"],
        body=_body(step.graph, carried),
        num_scan_inputs=1,
    )
    data = [
        helper.make_tensor_value_info("X", TensorProto.FLOAT, ["N", *sample]),
        helper.make_tensor_value_info("Y", TensorProto.INT64, ["N"]),
        helper.make_tensor_value_info("idx", TensorProto.INT64, ["K", batch]),
    ]
    losses = helper.make_tensor_value_info("losses", TensorProto.FLOAT, ["K"])
    graph = helper.make_graph(
        [scan], "train", [*_renamed(carried, "in"), *data, *rates], [*_renamed(carried, "out"), losses]
    )
    return helper.make_model(graph, opset_imports=list(step.opset_import), ir_version=step.ir_version)


def _body(step: GraphProto, carried: Sequence[ValueInfoProto]) -> GraphProto:
    """State and one row of indices in; new state and loss out. X, Y, lr and mu come from the graph around it."""
    row = helper.make_tensor_value_info("row", TensorProto.INT64, [None])
    gather = [
        helper.make_node("Gather", ["X", "row"], ["x"], axis=0),
        helper.make_node("Gather", ["Y", "row"], ["y"], axis=0),
    ]
    return helper.make_graph(
        [*gather, *step.node], "step", [*carried, row], list(step.output), initializer=list(step.initializer)
    )


def _renamed(values: Sequence[ValueInfoProto], prefix: str) -> list[ValueInfoProto]:
    result = []
    for value in values:
        renamed = ValueInfoProto()
        renamed.CopyFrom(value)
        renamed.name = f"{prefix}.{value.name}"
        result.append(renamed)
    return result
