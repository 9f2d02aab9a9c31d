"""The watch workload as one object. Settings were chosen on people 1-7 alone (docs/workloads.md has the figures)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from workloads.base import About, DeviceStream, FederatedPlan, HubData, TrainingPlan
from workloads.watch.recordings import CHANNELS, EXERCISES, WatchRecording, read_recordings
from workloads.watch.windows import LENGTH, device_streams, hub_data

if TYPE_CHECKING:
    from torch import nn


class WatchWorkload:
    """Seven shoulder exercises from 2.56 s of a watch's accelerometer and gyroscope."""

    name = "watch"
    about = About(
        title="Shoulder exercises from a smartwatch",
        intended_use="Recognise seven physiotherapy exercises from a watch on either wrist. Not for medical decisions.",
        licence="BSD-3-Clause (data: seglearn, D. M. Burns); the model may be used under the same terms",
    )
    input_shape = (len(CHANNELS), LENGTH)
    classes = EXERCISES
    training = TrainingPlan(epochs=40, batch_size=32, learning_rate=2e-3, weight_decay=1e-2, finetune_epochs=20)
    federated = FederatedPlan(
        strategy="FedAvgM",
        strategy_options={"server_learning_rate": 1.0, "server_momentum": 0.5},
        rounds=30,
        local_epochs=2,
        batch_size=16,
        learning_rate=0.05,
        momentum=0.5,
    )

    @cached_property
    def _recordings(self) -> tuple[WatchRecording, ...]:
        return read_recordings()

    def hub_data(self) -> HubData:
        """Right arms of people 1-7: 904 windows to train on, 210 held out."""
        return hub_data(self._recordings)

    def model(self, seed: int) -> nn.Module:
        """A `WatchNet` with its constants from the hub's training data and its weights from `seed`."""
        import torch

        from workloads.watch.network import WatchNet

        x = self.hub_data().train.x
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            mean, deviation = x.mean(axis=(0, 2), dtype=np.float32), x.std(axis=(0, 2), dtype=np.float32)
            return WatchNet(mean, deviation, len(self.classes))

    def streams(self) -> Sequence[DeviceStream]:
        """Twenty watches, `p01-right` ... `p10-left`, 103 to 234 windows each."""
        return device_streams(self._recordings)


WATCH = WatchWorkload()
