"""Pooling and its gradients from slices, comparisons and transposed convolutions.

Maximum pooling in onnxruntime gives no gradient, and torch's flat indices do not survive export. Here both directions
agree on another index: the position inside the window, where ties go to the first as in torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch

aten = torch.ops.aten

_LOWEST = -3.0e38


def max_pool2d_with_indices(
    x: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil_mode: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The maxima [n, c, h, w], and for each the position of its winner inside the window, row by row."""
    if ceil_mode:
        raise NotImplementedError("max pooling with ceil_mode")
    rows, columns = _pair(padding)
    padded = aten.constant_pad_nd(x, [columns, columns, rows, rows], _LOWEST) if rows or columns else x
    windows = torch.stack(_slices(padded, _pair(kernel), _pair(stride or kernel), _pair(dilation)), -1)
    return windows.amax(-1), windows.argmax(-1)


def max_pool2d_with_indices_backward(  # noqa: PLR0913, PLR0917 - the signature is aten's
    grad: torch.Tensor,
    x: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
    position: torch.Tensor,
) -> torch.Tensor:
    """The gradient of the input: each output's gradient goes to the winner of its window."""
    (rows, columns), steps, (down, right) = _pair(kernel), _pair(stride or kernel), _pair(dilation)
    top, left = _pair(padding)
    height, width = x.shape[-2] + 2 * top, x.shape[-1] + 2 * left
    total = torch.zeros(())
    for index, (row, column) in enumerate(itertools.product(range(rows), range(columns))):
        won = _spread((position == index).to(grad.dtype) * grad, steps)
        above, before = row * down, column * right
        below, after = height - above - won.shape[-2], width - before - won.shape[-1]
        total = total + aten.constant_pad_nd(won, [before, after, above, below], 0.0)
    return total[:, :, top : top + x.shape[-2], left : left + x.shape[-1]]


def avg_pool2d_backward(  # noqa: PLR0913, PLR0917 - the signature is aten's
    grad: torch.Tensor,
    x: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> torch.Tensor:
    """The gradient of the input: a transposed convolution with a constant kernel, channel by channel."""
    size, steps, pads = _pair(kernel), _pair(stride or kernel), _pair(padding)
    if ceil_mode or divisor is not None or (any(pads) and not count_include_pad):
        raise NotImplementedError("average pooling with ceil_mode, a divisor, or padding left out of the mean")
    weight = torch.full((x.shape[1], 1, *size), 1.0 / (size[0] * size[1]))
    never_met = [
        whole - ((out - 1) * step - 2 * pad + length)
        for whole, out, step, pad, length in zip(x.shape[-2:], grad.shape[-2:], steps, pads, size, strict=True)
    ]
    result: torch.Tensor = aten.convolution(
        grad, weight, None, list(steps), list(pads), [1, 1], True, never_met, x.shape[1]
    )
    return result


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return (values[0], values[-1])


def _slices(
    x: torch.Tensor, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> list[torch.Tensor]:
    """For each position in the window, that element of all windows: kernel-many tensors [n, c, h, w]."""
    reach = [1 + far * (size - 1) for size, far in zip(kernel, dilation, strict=True)]
    last = [(size - span) // step * step for size, span, step in zip(x.shape[-2:], reach, stride, strict=True)]
    result = []
    for row, column in itertools.product(range(kernel[0]), range(kernel[1])):
        top, left = row * dilation[0], column * dilation[1]
        part = aten.slice.Tensor(x, 2, top, top + last[0] + 1, stride[0])
        result.append(aten.slice.Tensor(part, 3, left, left + last[1] + 1, stride[1]))
    return result


def _spread(t: torch.Tensor, stride: tuple[int, int]) -> torch.Tensor:
    """Put stride - 1 zeros between neighbours of the two last axes."""
    return _spread_last(_spread_last(t, stride[1]).transpose(2, 3), stride[0]).transpose(2, 3)


def _spread_last(t: torch.Tensor, stride: int) -> torch.Tensor:
    if stride == 1:
        return t
    *front, length = t.shape
    spread = aten.constant_pad_nd(t.unsqueeze(-1), [0, stride - 1], 0.0).reshape(*front, length * stride)
    result: torch.Tensor = aten.slice.Tensor(spread, len(front), 0, (length - 1) * stride + 1)
    return result
