"""The rehearsal of learning, in the installer child: the graphs of a release learn from windows that are made up.

It is the daemon's own trainer that runs, on the release's shapes, over more than one step. Nothing is concluded from
the numbers, for such windows mean nothing; what counts is that the graphs load, compute and end.
"""

import contextlib
from typing import TYPE_CHECKING, Final

from edge_agent.errors import brief
from wire.codec import Document
from wire.onnx_file import takes_other_files
from wire.release import Learning

if TYPE_CHECKING:
    from federated.device.ports import LearningFiles, Samples
    from federated.device.training import Recipe
    from federated.records import Arrays

SEED: Final = 7
SPREAD: Final = 0.05
"""Standard deviation of the parameters that it begins with."""


class RehearsalOrder(Document, frozen=True, kw_only=True, tag="rehearsal"):
    """Which graphs to try. Paths are absolute; `input` is the shape of the model's input, -1 for a free dimension."""

    train_step: str
    eval: str
    learning: Learning
    input: tuple[int, ...]
    classes: int


class Rehearsed(Document, frozen=True, kw_only=True):
    """How it went. `reason` is empty when both graphs did their work."""

    reason: str = ""


def attempt(order: RehearsalOrder) -> Rehearsed:
    """Learn and evaluate once. Whatever the graphs cause is the reason."""
    try:
        return Rehearsed(reason=_attempt(order))
    except Exception as error:  # the graphs are hostile until proven otherwise
        return Rehearsed(reason=brief(error))


def _attempt(order: RehearsalOrder) -> str:
    from federated.device.ports import LearningFiles

    for name, path in (("train-step", order.train_step), ("eval", order.eval)):
        with open(path, "rb") as file:
            if takes_other_files(file.read()):
                return f"the {name} graph takes data from other files; a graph is one file"
    _learn(LearningFiles(order.train_step, order.eval, order.learning), *_made_up(order))
    return ""


def _learn(files: "LearningFiles", parameters: "Arrays", samples: "Samples", recipe: "Recipe") -> None:
    import numpy as np

    from federated.device.trainer import OnnxTrainer
    from federated.device.training import DivergedError

    trainer, everywhere = OnnxTrainer(files), np.arange(len(samples.y))
    with contextlib.suppress(DivergedError):
        parameters = trainer.train(parameters, samples, everywhere, recipe, lambda: False).parameters
    with contextlib.suppress(DivergedError):
        trainer.evaluate(parameters, samples, everywhere, lambda: False)


def _made_up(order: RehearsalOrder) -> "tuple[Arrays, Samples, Recipe]":
    import numpy as np

    from federated.device.ports import Samples
    from federated.device.training import Recipe

    rng = np.random.default_rng(SEED)
    count = order.learning.batch + 1  # two steps
    shape = (count, *(max(1, size) for size in order.input[1:]))
    parameters: Arrays = {
        tensor.name: (SPREAD * rng.standard_normal(tensor.shape)).astype(np.float32)
        for tensor in order.learning.parameters
    }
    labels = np.arange(count, dtype=np.int64) % order.classes
    windows = Samples(rng.standard_normal(shape, dtype=np.float32), labels)
    return parameters, windows, Recipe(epochs=1, lr=0.01, momentum=0.9, seed=(SEED,))
