"""The contract a workload keeps: everything Fleetloop must be told to take a model and its data round the loop.

A user brings their own model by writing one object of this shape and naming it `module:attribute` (see
`workloads.registry`). The rule: a workload describes, it never acts. It opens no connection, starts no training and
reads only its own data. torch is imported inside `model`, so that a process which only plays data never loads it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class WorkloadError(Exception):
    """A workload cannot be loaded, or what it returned breaks the contract of this module."""


class DataError(WorkloadError):
    """The data behind a workload is missing, malformed or not the data it was written for."""


@dataclass(frozen=True)
class Examples:
    """Inputs `x` float32 [n, *input_shape] with their labels `y` int64 [n]."""

    x: Floats
    y: Labels

    def __post_init__(self) -> None:
        if self.x.dtype != np.float32 or self.y.dtype != np.int64:
            raise DataError(f"examples must be float32 and int64, got {self.x.dtype} and {self.y.dtype}")
        if self.y.shape != self.x.shape[:1]:
            raise DataError(f"{len(self.x)} inputs come with labels of shape {self.y.shape}")

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class HubData:
    """The labelled data the hub itself holds. `holdout` never trains, calibrates or selects golden inputs."""

    train: Examples
    holdout: Examples

    @property
    def digest(self) -> str:
        """SHA-256 in hex over shapes and bytes of all four arrays: the data part of a version's lineage."""
        digest = hashlib.sha256()
        for array in (self.train.x, self.train.y, self.holdout.x, self.holdout.y):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Recording:
    """One uninterrupted stretch of a device's life: windows in time order, all with labels."""

    name: str
    examples: Examples


@dataclass(frozen=True)
class DeviceStream:
    """One natural device: what an application on it would feed, recording by recording, in time order."""

    device: str
    labels: Mapping[str, str]
    recordings: tuple[Recording, ...]

    def __len__(self) -> int:
        return sum(len(recording.examples) for recording in self.recordings)


@dataclass(frozen=True)
class About:
    """What the model card tells people."""

    title: str
    intended_use: str
    licence: str
    """Of the data and of the model that comes out."""


@dataclass(frozen=True)
class TrainingPlan:
    """How the hub trains version 1, and how long a pruned copy is tuned afterwards."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.0
    finetune_epochs: int = 0


@dataclass(frozen=True)
class FederatedPlan:
    """How devices learn together. `strategy` names a class of `flwr.serverapp.strategy`, unmodified."""

    strategy: str
    rounds: int
    local_epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    strategy_options: Mapping[str, float] = field(default_factory=dict)


class Workload(Protocol):
    """What a user implements; plain class attributes will do for the properties."""

    @property
    def name(self) -> str:
        """Short and stable: it names the model on the fleet."""
        ...

    @property
    def about(self) -> About:
        """Title, intended use and licence, for the model card."""
        ...

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one raw input, without the batch axis."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        ...

    @property
    def training(self) -> TrainingPlan:
        """How the hub trains."""
        ...

    @property
    def federated(self) -> FederatedPlan:
        """How devices learn."""
        ...

    def hub_data(self) -> HubData:
        """The hub's labelled data. Raises DataError when it is missing or not what it should be."""
        ...

    def model(self, seed: int) -> torch.nn.Module:
        """A freshly initialised network [n, *input_shape] -> logits [n, len(classes)], the same for the same seed.

        Normalisation belongs inside it, as buffers: devices feed raw inputs. It must not use batch statistics.
        """
        ...

    def streams(self) -> Sequence[DeviceStream]:
        """The natural devices of this data set. May be empty when devices bring their own data."""
        ...
