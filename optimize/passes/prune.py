"""Structured pruning: whole channels go, so that the network that remains is a smaller dense one and really faster.

Only before federating. A pruned network must be tuned on the hub's data, which would undo what devices have learnt.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch_pruning
from torch import nn

from optimize.export import bind
from optimize.network import arrays
from optimize.passes.candidate import Candidate, PassError, derived_name
from optimize.train_step import export_eval

_LANES = 8


@dataclass(frozen=True)
class Prune:
    """The pass: removes `share` of each layer's channels (a multiple of 8 stays), then calls `finetune` on the rest."""

    share: float
    input_shape: tuple[int, ...]
    finetune: Callable[[nn.Module], nn.Module]

    def __call__(self, candidate: Candidate) -> Candidate:
        """`candidate`, narrower. Raises PassError when it has no torch network or no channel to spare."""
        if candidate.network is None:
            raise PassError(f"{candidate.name} has no torch network, which structured pruning works on")
        network = copy.deepcopy(candidate.network)
        before = _size(network)
        torch_pruning.pruner.BasePruner(
            network,
            torch.zeros(1, *self.input_shape),
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=self.share,
            ignored_layers=_last_layer(network),
            round_to=_LANES,
        ).step()
        if _size(network) == before:
            raise PassError(f"{candidate.name} has no layer with {_LANES} channels to spare")
        network = self.finetune(network).eval()
        model = bind(export_eval(network, self.input_shape), arrays(network))
        return Candidate(derived_name(candidate.name, "pruned"), "fp32", model, network)


def _size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _last_layer(network: nn.Module) -> list[nn.Module]:
    """Its width is the number of classes and must stay."""
    layers: list[nn.Module] = [one for one in network.modules() if isinstance(one, nn.Linear | nn.Conv1d | nn.Conv2d)]
    return layers[-1:]
