"""The fp32 parent: the eval graph with its parameters bound as constants. No torch is needed to make it.

Because version 1 and every federated result go through the same function with the same eval graph, they differ in
their parameters and in nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, numpy_helper

from optimize.compact import check, compact

Parameters = Mapping[str, npt.NDArray[np.float32]]

_PREFIX = "p."


class ParametersError(Exception):
    """The parameters are not those of the model: a name, a shape, a type or a value is wrong."""


def parameter_shapes(eval_graph: ModelProto) -> dict[str, tuple[int, ...]]:
    """Name -> shape of each parameter an eval graph takes, in order."""
    return {
        value.name.removeprefix(_PREFIX): tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
        for value in eval_graph.graph.input
        if value.name.startswith(_PREFIX)
    }


def bind(eval_graph: ModelProto, parameters: Parameters) -> ModelProto:
    """The deployable parent: input x float32 [N, ...] -> logits [N, C], single file.

    Raises ParametersError unless `parameters` (float32, finite) are exactly those which the eval graph takes.
    """
    shapes = parameter_shapes(eval_graph)
    _refuse_others(shapes, parameters)
    model = ModelProto()
    model.CopyFrom(eval_graph)
    free = [value for value in model.graph.input if not value.name.startswith(_PREFIX)]
    del model.graph.input[:]
    model.graph.input.extend(free)
    model.graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(parameters[name]), f"{_PREFIX}{name}") for name in shapes
    )
    return check(compact(model))


def _refuse_others(shapes: Mapping[str, tuple[int, ...]], parameters: Parameters) -> None:
    if missing := sorted(shapes.keys() - parameters.keys()):
        raise ParametersError(f"parameters lack {', '.join(missing)}")
    if unknown := sorted(parameters.keys() - shapes.keys()):
        raise ParametersError(f"the model has no parameters {', '.join(unknown)}")
    for name, shape in shapes.items():
        value = parameters[name]
        if value.shape != shape or value.dtype != np.float32:
            raise ParametersError(f"{name} must be float32 {list(shape)}, got {value.dtype} {list(value.shape)}")
        if not np.isfinite(value).all():
            raise ParametersError(f"{name} has values that are not finite")
