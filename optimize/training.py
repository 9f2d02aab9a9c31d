"""Training on the hub with torch: AdamW, cosine decay, cross-entropy; on a GPU in mixed precision where there is one.

Deterministic for a seed on one machine: order of the batches and initial weights come from it, nothing else is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from workloads.base import Examples, TrainingPlan

Progress = Callable[[int, int, float], None]
"""Called after each epoch with (epoch from 1, epochs, mean loss)."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: `epochs` passes in batches of `batch_size`, learning rate falling to zero by a cosine."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float

    @classmethod
    def full(cls, plan: TrainingPlan) -> Schedule:
        """From scratch."""
        return cls(plan.epochs, plan.batch_size, plan.learning_rate, plan.weight_decay)

    @classmethod
    def finetune(cls, plan: TrainingPlan) -> Schedule:
        """After a change to the network: shorter, at half the rate."""
        return cls(plan.finetune_epochs, plan.batch_size, plan.learning_rate / 2, plan.weight_decay)


def fit(network: nn.Module, data: Examples, schedule: Schedule, seed: int, progress: Progress) -> nn.Module:
    """Train `network` in place on `data` and return it, on the CPU and in eval mode."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device).train()
    x, y = torch.from_numpy(data.x).to(device), torch.from_numpy(data.y).to(device)
    order = torch.Generator().manual_seed(seed)
    batches = max(1, len(data) // schedule.batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, schedule.epochs * batches))
    scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
    for epoch in range(1, schedule.epochs + 1):
        total = 0.0
        for batch in torch.randperm(len(data), generator=order)[: batches * schedule.batch_size].chunk(batches):
            with torch.autocast(device.type, enabled=device.type == "cuda"):
                loss = functional.cross_entropy(network(x[batch]), y[batch])
            optimizer.zero_grad()
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimizer)
            scaler.update()
            decay.step()
            total += loss.item()
        progress(epoch, schedule.epochs, total / batches)
    return network.cpu().eval()
