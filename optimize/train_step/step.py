"""One local step as a pure function: cross-entropy, its gradient, SGD with momentum. torch's own SGD is the reference.

Refused, because the exported step must be deterministic and free of hidden state: batch-norm that still collects
statistics, dropout that still drops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, grad_and_value
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from optimize.quiet import quiet_export
from optimize.train_step.decompositions import decomposition_table

Tensors = list[torch.Tensor]
Step = Callable[..., tuple[Tensors, Tensors, torch.Tensor]]


class NotTrainableError(Exception):
    """This model cannot become a train-step graph; the message says which part, and what to use in its place."""


def refuse_hidden_state(model: nn.Module) -> None:
    """Raise NotTrainableError when a part of `model` would draw random numbers or keep batch statistics."""
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and (module.training or not module.track_running_stats):
            raise NotTrainableError(
                f"{name!r} is batch-norm in training mode: its statistics would leak one device's data into all. "
                "Use GroupNorm or no norm, or freeze it with .eval()"
            )
        if isinstance(module, _DropoutNd) and module.training and module.p > 0:
            raise NotTrainableError(f"{name!r} is dropout in training mode: switch it off with .eval()")
        if getattr(module, "return_indices", False):
            raise NotTrainableError(f"{name!r} returns pooling indices, which have another meaning once exported")


def cross_entropy(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of logits [b, c] with labels int64 [b], from operators that ONNX has."""
    shifted = logits - logits.amax(1, keepdim=True).detach()
    log_probability = shifted - shifted.exp().sum(1, keepdim=True).log()
    one_hot = (y.unsqueeze(1) == torch.arange(logits.shape[1])).to(logits.dtype)
    return -(log_probability * one_hot).sum() / logits.shape[0]


def sgd_step(model: nn.Module) -> Step:
    """`step(params, momenta, x, y, lr, mu) -> (params, momenta, loss)`; lists follow `model.named_parameters()`."""
    names = [name for name, _ in model.named_parameters()]

    def step(
        params: Tensors, momenta: Tensors, x: torch.Tensor, y: torch.Tensor, lr: torch.Tensor, mu: torch.Tensor
    ) -> tuple[Tensors, Tensors, torch.Tensor]:
        def loss_of(named: dict[str, torch.Tensor]) -> torch.Tensor:
            return cross_entropy(functional_call(model, named, (x,)), y)

        gradients, loss = grad_and_value(loss_of)(dict(zip(names, params, strict=True)))
        moved = [momentum * mu + gradients[name] for name, momentum in zip(names, momenta, strict=True)]
        return [param - lr * momentum for param, momentum in zip(params, moved, strict=True)], moved, loss

    return step


def trace(step: Step, arguments: tuple[Any, ...]) -> GraphModule:
    """Run `step` once and record it, gradients included, as a graph of exportable operators.

    Raises NotTrainableError when the model uses an operator whose gradient is not supported.
    """
    try:
        # Fused attention and mkldnn kernels have gradients of their own that nothing else understands.
        with quiet_export(), sdpa_kernel(SDPBackend.MATH), torch.backends.mkldnn.flags(enabled=False):
            graph = make_fx(step, decomposition_table=decomposition_table())(*arguments)
    except NotImplementedError as error:
        raise NotTrainableError(f"the model needs {error}, which the train-step export does not support") from error
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph
