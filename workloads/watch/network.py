"""The watch model: a small 1-D convolutional network without batch statistics, so that it can learn on a device."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from workloads.base import Floats

CHANNEL_WIDTHS = (24, 32, 48)
KERNEL = 5


class WatchNet(nn.Module):
    """Raw windows float32 [n, 6, 128] (g and rad/s) -> logits float32 [n, 7]. 12,687 parameters.

    Three strided convolutions with ReLU, a mean over time, one linear layer. The inputs are standardised per channel
    with the statistics of the hub's training data, kept as buffers: part of the graph, never trained.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, mean: Floats, deviation: Floats, classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(mean).reshape(1, -1, 1))
        self.register_buffer("scale", torch.from_numpy(1.0 / deviation).reshape(1, -1, 1))
        widths = (len(mean), *CHANNEL_WIDTHS)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, after, KERNEL, stride=2, padding=KERNEL // 2)
            for before, after in itertools.pairwise(widths)
        )
        self.head = nn.Linear(widths[-1], classes)
        for convolution in self.convolutions:
            nn.init.kaiming_normal_(convolution.get_parameter("weight"), nonlinearity="relu")
            nn.init.zeros_(convolution.get_parameter("bias"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits for a batch of raw windows."""
        hidden = (x - self.mean) * self.scale
        for convolution in self.convolutions:
            hidden = torch.relu(convolution(hidden))
        logits: torch.Tensor = self.head(hidden.mean(2))
        return logits
