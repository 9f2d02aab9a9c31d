"""A version's parent from parameters that devices learnt. No torch, and no tuning on the hub's data."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from safetensors import SafetensorError
from safetensors.numpy import load

from optimize.export import Parameters, ParametersError, bind
from optimize.origin import Origin, Recipe, int8_recipes
from optimize.passes.candidate import PARENT, parent_candidate
from optimize.passes.half import half
from optimize.spec import DeriveSpec
from workloads.base import HubData


class DeriveError(Exception):
    """A file the job was given is not what it should be."""


def derive(spec: DeriveSpec, data: HubData) -> Origin:
    """Bind the learnt parameters to the eval graph they belong to.

    Raises DeriveError for unreadable files and ParametersError for parameters of another model.
    """
    eval_graph, train_step = _graph(spec.eval_graph), _graph(spec.train_step)
    parameters = _parameters(spec.parameters)
    return Origin(
        parent=parent_candidate(bind(eval_graph, parameters)),
        eval_graph=eval_graph,
        train_step=train_step,
        batch=_batch(train_step),
        parameters=parameters,
        recipes=[*int8_recipes(data, spec.targets), Recipe("fp16", PARENT, half)],
    )


def _graph(path: str) -> onnx.ModelProto:
    try:
        return onnx.load(path, load_external_data=False)
    except (OSError, DecodeError) as error:
        raise DeriveError(f"{path} is not a readable ONNX graph: {error}") from error


def _parameters(path: str) -> Parameters:
    try:
        parameters: Parameters = load(Path(path).read_bytes())
    except (OSError, SafetensorError) as error:
        raise ParametersError(f"{path} is not a readable safetensors file: {error}") from error
    return parameters


def _batch(train_step: onnx.ModelProto) -> int:
    for value in train_step.graph.input:
        if value.name == "idx":
            return int(value.type.tensor_type.shape.dim[1].dim_value)
    raise DeriveError("the train-step graph has no input 'idx' [K, batch]")
