"""The two graphs a device learns with: the train step, K steps of SGD, and the eval graph with parameters as inputs.

Both are made from the same functional form of the model, so what a device trains is what it evaluates. Buffers, such as
the constants of a normalisation, are baked into both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from onnx import ModelProto
from torch import nn
from torch.func import functional_call

from optimize.compact import check, compact, operators
from optimize.quiet import quiet_export
from optimize.train_step.scan import scan_over_batches
from optimize.train_step.step import NotTrainableError, refuse_hidden_state, sgd_step, trace

OPSET = 20


@dataclass(frozen=True)
class TrainStep:
    """A train-step graph with what is needed to feed it: the fixed batch size and the parameters' names, in order."""

    graph: ModelProto
    batch: int
    parameters: tuple[str, ...]


def export_train_step(model: nn.Module, input_shape: tuple[int, ...], batch: int) -> TrainStep:
    """K steps of SGD with momentum on cross-entropy, as one graph of `ai.onnx` operators.

    Inputs: `in.p.<name>` and `in.m.<name>` for each parameter and its momentum, X float32 [N, *input_shape], Y int64
    [N], idx int64 [K, batch], lr and mu float32 scalars. Outputs: `out.p.<name>`, `out.m.<name>`, losses float32 [K].
    Raises NotTrainableError for models with hidden state or with operators whose gradient is not supported.
    """
    refuse_hidden_state(model)
    names = tuple(name for name, _ in model.named_parameters())
    arguments = _example(model, input_shape, batch)
    graph = trace(sgd_step(model), arguments)
    state = [f"p.{name}" for name in names] + [f"m.{name}" for name in names]
    with quiet_export():
        # optimize=True would take an epsilon of 1e-8 for zero and remove it.
        program = torch.onnx.export(
            graph,
            arguments,
            dynamo=True,
            optimize=False,
            verbose=False,
            opset_version=OPSET,
            input_names=[*state, "x", "y", "lr", "mu"],
            output_names=[*(f"new.{name}" for name in state), "loss"],
        )
    assert program is not None
    wrapped = check(compact(scan_over_batches(program.model_proto, state, batch)))
    foreign = [operator for operator in operators(wrapped) if "::" in operator]
    if foreign:
        raise NotTrainableError(f"the model's gradient needs operators outside ai.onnx: {', '.join(foreign)}")
    return TrainStep(wrapped, batch, names)


def export_eval(model: nn.Module, input_shape: tuple[int, ...]) -> ModelProto:
    """The forward pass with parameters as inputs: `p.<name>` for each, x float32 [N, *input_shape] -> logits [N, C]."""
    refuse_hidden_state(model)
    names = tuple(name for name, _ in model.named_parameters())
    values = [parameter.detach().clone() for parameter in model.parameters()]
    batch = torch.export.Dim("N", min=1)
    with quiet_export():
        program = torch.onnx.export(
            _Functional(model, names),
            (values, torch.zeros(2, *input_shape)),
            dynamo=True,
            optimize=False,
            verbose=False,
            opset_version=OPSET,
            dynamic_shapes=([None] * len(values), {0: batch}),
            input_names=[*(f"p.{name}" for name in names), "x"],
            output_names=["logits"],
        )
    assert program is not None
    graph = program.model_proto.graph
    for value in (graph.input[-1], graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    return check(compact(program.model_proto))


class _Functional(nn.Module):
    """`model` as a function of its parameters. The model is held in a list so that they are not found as its own."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self._model = [model]
        self._names = names

    def forward(self, parameters: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        named = dict(zip(self._names, parameters, strict=True))
        logits: torch.Tensor = functional_call(self._model[0], named, (x,))
        return logits


def _example(model: nn.Module, input_shape: tuple[int, ...], batch: int) -> tuple[object, ...]:
    """Arguments of the step with the shapes and types it will see. Their values do not matter."""
    parameters = [parameter.detach().clone() for parameter in model.parameters()]
    momenta = [torch.zeros_like(parameter) for parameter in parameters]
    x, y = torch.zeros(batch, *input_shape), torch.zeros(batch, dtype=torch.int64)
    return parameters, momenta, x, y, torch.tensor(0.1), torch.tensor(0.9)
