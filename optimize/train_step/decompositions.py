"""Which aten operators are taken apart before export, and by what: everything the ONNX exporter cannot translate.

The base is torch's own core table. `silu` and the normalisations are there or in torch's wider table; convolution and
pooling gradients are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._decomp import core_aten_decompositions, get_decompositions

from optimize.train_step.convolution import convolution_backward
from optimize.train_step.pooling import (
    avg_pool2d_backward,
    max_pool2d_with_indices,
    max_pool2d_with_indices_backward,
)

aten = torch.ops.aten


def decomposition_table() -> dict[Any, Callable[..., Any]]:
    """Operator overload -> function of simpler operators, for `make_fx`."""
    table: dict[Any, Callable[..., Any]] = dict(core_aten_decompositions())
    table.update(
        get_decompositions(
            [
                aten.native_group_norm,
                aten.native_group_norm_backward,
                aten.native_layer_norm,
                aten.native_layer_norm_backward,
                aten.native_batch_norm_backward,
                aten.silu_backward,
            ]
        )
    )
    table[aten.convolution_backward.default] = convolution_backward
    table[aten.max_pool2d_with_indices.default] = max_pool2d_with_indices
    table[aten.max_pool2d_with_indices_backward.default] = max_pool2d_with_indices_backward
    table[aten.avg_pool2d_backward.default] = avg_pool2d_backward
    table[aten.empty_permuted.default] = _zeros_in_any_layout
    return table


def _zeros_in_any_layout(size: list[int], _layout: list[int], **_options: object) -> torch.Tensor:
    return torch.zeros(size)
