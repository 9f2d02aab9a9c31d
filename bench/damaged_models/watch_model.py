"""What gets damaged: the watch network as the optimizer exports it, in fp32 and int8 with golden vectors, and the graph
that it learns with.

Its weights are as drawn, not trained: the gate does not care how well a model works, only that it does what it did.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from optimize.export import bind
from optimize.golden import TOLERANCE, golden_file
from optimize.passes.candidate import Candidate
from optimize.passes.quantize import Quantize
from optimize.session import Session
from optimize.train_step.export import export_eval
from wire.golden import logits_name
from workloads.watch.network import WatchNet

WINDOW: Final = (6, 128)
CLASSES: Final = 7
INPUTS: Final = 8
"""Fewer golden inputs than a release has: a damaged model shows it on these, and each costs time."""


@dataclass(frozen=True)
class Variant:
    """A good model and how closely it must reproduce its golden logits."""

    name: str
    model: bytes
    tolerance: float

    @property
    def logits(self) -> str:
        """The name of its tensor in the golden file."""
        return logits_name(self.name)


def export(seed: int) -> tuple[tuple[Variant, ...], bytes]:
    """Both variants, and their golden file."""
    torch.manual_seed(seed)
    channels = WINDOW[0]
    network = WatchNet(np.zeros(channels, np.float32), np.ones(channels, np.float32), CLASSES)
    parameters = {name: value.detach().numpy() for name, value in network.named_parameters()}
    parent = bind(export_eval(network, WINDOW), parameters)
    windows = np.random.default_rng(seed).normal(size=(64, *WINDOW)).astype(np.float16)
    small = Quantize(windows.astype(np.float32))(Candidate("fp32", "fp32", parent))
    models = {"fp32": parent.SerializeToString(), "int8": small.model.SerializeToString()}
    golden = golden_file(windows[:INPUTS], {name: Session(model) for name, model in models.items()})
    return tuple(Variant(name, model, TOLERANCE[name]) for name, model in models.items()), golden
