"""What gets damaged: the watch network as the optimizer exports it, in fp32 and int8 with golden vectors, and the graph
that it learns with.

Its weights are as drawn, not trained: the gate does not care how well a model works, only that it does what it did.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from edge_agent.canary import CanaryOrder
from edge_agent.ports import CanaryRequest, Installer, RehearsalRequest
from edge_agent.rehearsal import RehearsalOrder
from optimize.export import bind
from optimize.golden import TOLERANCE, golden_file
from optimize.passes.candidate import Candidate
from optimize.passes.quantize import Quantize
from optimize.session import Session
from optimize.train_step.export import export_eval, export_train_step
from wire.golden import logits_name
from wire.release import Learning, Tensor
from workloads.watch.network import WatchNet

WINDOW: Final = (6, 128)
CLASSES: Final = 7
BATCH: Final = 4
INPUTS: Final = 8
"""Fewer golden inputs than a release has: a damaged model shows it on these, and each costs time."""


MODEL: Final = "model"
"""The file with what may be damaged; those below beside it are sound."""
GOLDEN: Final = "golden"
EVAL: Final = "eval"


@dataclass(frozen=True)
class Variant:
    """A good model and how closely it must reproduce its golden logits."""

    name: str
    model: bytes
    tolerance: float

    def what(self, folder: Path) -> CanaryOrder:
        """To try the model that lies there."""
        paths = {name: str(folder / name) for name in (MODEL, GOLDEN)}
        return CanaryOrder(**paths, logits=self.logits, tolerance=self.tolerance)

    async def installed(self, installer: Installer, limit_s: float) -> str:
        """Why the installer refuses it, if it does."""
        request = CanaryRequest(MODEL, GOLDEN, self.logits, self.tolerance, limit_s)
        return (await installer.canary(request)).reason

    @property
    def logits(self) -> str:
        """The name of its tensor in the golden file."""
        return logits_name(self.name)


@dataclass(frozen=True)
class Learner:
    """A good graph to learn with."""

    model: bytes
    learning: Learning
    name: str = "train step"

    def what(self, folder: Path) -> RehearsalOrder:
        """To learn with the graph that lies there."""
        paths = {"train_step": str(folder / MODEL), "eval": str(folder / EVAL)}
        return RehearsalOrder(**paths, learning=self.learning, input=(-1, *WINDOW), classes=CLASSES)

    async def installed(self, installer: Installer, limit_s: float) -> str:
        """Why the installer refuses it, if it does."""
        return await installer.rehearse(RehearsalRequest(MODEL, EVAL, self.learning, (-1, *WINDOW), CLASSES, limit_s))


Subject = Variant | Learner


def export(seed: int) -> tuple[tuple[Subject, ...], dict[str, bytes]]:
    """What may be damaged, and the sound files beside it by name."""
    torch.manual_seed(seed)
    channels = WINDOW[0]
    network = WatchNet(np.zeros(channels, np.float32), np.ones(channels, np.float32), CLASSES)
    parameters = {name: value.detach().numpy() for name, value in network.named_parameters()}
    evaluate, step = export_eval(network, WINDOW), export_train_step(network, WINDOW, BATCH)
    parent = bind(evaluate, parameters)
    windows = np.random.default_rng(seed).normal(size=(64, *WINDOW)).astype(np.float16)
    small = Quantize(windows.astype(np.float32))(Candidate("fp32", "fp32", parent))
    models = {"fp32": parent.SerializeToString(), "int8": small.model.SerializeToString()}
    golden = golden_file(windows[:INPUTS], {name: Session(model) for name, model in models.items()})
    variants = tuple(Variant(name, model, TOLERANCE[name]) for name, model in models.items())
    tensors = tuple(Tensor(name=name, shape=parameters[name].shape) for name in step.parameters)
    learner = Learner(step.graph.SerializeToString(), Learning(batch=BATCH, parameters=tensors))
    return (*variants, learner), {GOLDEN: golden, EVAL: evaluate.SerializeToString()}
