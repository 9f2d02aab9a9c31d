"""The gradient of a convolution, written as convolutions.

ONNX has no operator for it. Both gradients are themselves convolutions of a kind onnxruntime does have: that of the
input is the transposed convolution, that of the weight is a convolution of input with output gradient in which batch
and channels change places, and stride and dilation do. Both are exact, in one or two dimensions and with groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

aten = torch.ops.aten


@dataclass(frozen=True)
class _Geometry:
    """Everything but the tensors: one entry for each spatial dimension."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int


def convolution_backward(  # noqa: PLR0913, PLR0917 - the signature is aten's
    grad: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """Gradients of (input, weight, bias), each None unless its bit in `output_mask` is set."""
    if transposed:
        raise NotImplementedError("the gradient of a transposed convolution")
    spatial = x.dim() - 2
    per_axis = [(list(values) * spatial)[:spatial] for values in (stride, padding, dilation)]
    geometry = _Geometry(per_axis[0], per_axis[1], per_axis[2], groups)
    return (
        _input_gradient(grad, x, weight, geometry) if output_mask[0] else None,
        _weight_gradient(grad, x, weight, geometry) if output_mask[1] else None,
        grad.sum([0, *range(2, x.dim())]) if output_mask[2] else None,
    )


def _input_gradient(grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, g: _Geometry) -> torch.Tensor:
    # Where the stride does not divide the input, the last samples never met the kernel: pad their gradient with zero.
    never_met = [
        size - ((out - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1)
        for size, out, kernel, stride, padding, dilation in zip(
            x.shape[2:], grad.shape[2:], weight.shape[2:], g.stride, g.padding, g.dilation, strict=True
        )
    ]
    result: torch.Tensor = aten.convolution(
        grad, weight, None, g.stride, g.padding, g.dilation, True, never_met, g.groups
    )
    return result


def _weight_gradient(grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, g: _Geometry) -> torch.Tensor:
    images = _swap_batch_and_channels(x, g.groups, keep_outer=False)
    kernels = _swap_batch_and_channels(grad, g.groups, keep_outer=True)
    swapped = aten.convolution(
        images, kernels, None, g.dilation, g.padding, g.stride, False, [0] * (x.dim() - 2), g.groups
    )
    for dimension, size in enumerate(weight.shape[2:], start=2):
        swapped = aten.slice.Tensor(swapped, dimension, 0, size)
    result: torch.Tensor = swapped.transpose(0, 1)
    return result


def _swap_batch_and_channels(t: torch.Tensor, groups: int, *, keep_outer: bool) -> torch.Tensor:
    """[B, G*C, ...] -> images [C, G*B, ...], or kernels [G*C, B, ...] when `keep_outer`."""
    if groups == 1:
        return t.transpose(0, 1)
    batch, channels, *space = t.shape
    split = t.reshape(batch, groups, channels // groups, *space)
    tail = range(3, 3 + len(space))
    if keep_outer:
        return split.permute(1, 2, 0, *tail).reshape(channels, batch, *space)
    return split.permute(2, 1, 0, *tail).reshape(channels // groups, groups * batch, *space)
