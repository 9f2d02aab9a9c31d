"""What learns on a simulated device: the class whose prototype is nearest. The `federated.device.ports.Trainer`.

Training moves each prototype towards the mean of its class's windows. It computes with whole numbers (units of
1/256), so the same windows give the same bytes on every machine. A device that was tampered with does something else to
what it has learnt before it sends it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from federated.device.ports import LearningFiles, Samples, Trainer
from simulator.surroundings import CENTRES, FEATURES
from wire.release import Learning, Tensor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from federated.device.training import Evaluated, Indices, Recipe, Trained

    Parameters = Mapping[str, npt.NDArray[np.generic]]
    Whole = npt.NDArray[np.int64]

PROTOTYPES: Final = "prototypes"
UNIT: Final = 256
LEARNING: Final = Learning(batch=8, parameters=(Tensor(name=PROTOTYPES, shape=(len(CENTRES), FEATURES)),))

Poison = Literal["nan", "inf", "scaled", "sign_flipped", "wrong_shape", "stale"]


class PrototypeTrainer:
    """Learns prototypes."""

    def train(
        self,
        parameters: "Parameters",
        samples: Samples,
        places: "Indices",
        recipe: "Recipe",
        cancelled: Callable[[], bool],
    ) -> "Trained":
        """Each epoch goes the share `recipe.lr` of the way to the means. Raises TrainingError."""
        import numpy as np

        from federated.device.training import Trained, TrainingError

        if not len(places):
            raise TrainingError("there are no windows to train on")
        prototypes, step = _whole(parameters), int(recipe.lr * UNIT)
        windows, labels = samples.x[places].astype(np.int64), samples.y[places]
        for _ in range(recipe.epochs):
            for kind in np.unique(labels):
                mine = windows[labels == kind]
                mean = mine.sum(axis=0) * UNIT // len(mine)
                prototypes[kind] += (mean - prototypes[kind]) * step // UNIT
        loss = _distances(prototypes, windows)[np.arange(len(labels)), labels].sum()
        learnt = (prototypes / UNIT).astype(np.float32)
        return Trained({PROTOTYPES: learnt}, len(places), int(loss) / (len(places) * UNIT * UNIT))

    def evaluate(
        self, parameters: "Parameters", samples: Samples, places: "Indices", cancelled: Callable[[], bool]
    ) -> "Evaluated":
        """How many windows have the right prototype nearest. Raises TrainingError."""
        import numpy as np

        from federated.device.training import Evaluated, TrainingError

        if not len(places):
            raise TrainingError("there are no holdout windows to evaluate on")
        windows, labels = samples.x[places].astype(np.int64), samples.y[places]
        distances = _distances(_whole(parameters), windows)
        right, loss = int((distances.argmin(axis=1) == labels).sum()), distances[np.arange(len(labels)), labels].sum()
        return Evaluated(len(places), right / len(places), int(loss) / (len(places) * UNIT * UNIT))


@dataclass(slots=True)
class Tampering:
    """What a device does to what it has learnt. `factor`: how much a scaled update is enlarged."""

    poison: Poison
    factor: float = 1.0
    on_spoilt: Callable[[], None] = lambda: None
    """Called with every update that it has spoilt."""
    first: "Trained | None" = None
    """What a stale device learnt first, and sends ever after."""


class TamperedTrainer:
    """Learns as it should, and sends something else while `tampering` says so."""

    def __init__(self, trainer: Trainer, tampering: Callable[[], Tampering | None]) -> None:
        self._trainer = trainer
        self._tampering = tampering

    def train(
        self,
        parameters: "Parameters",
        samples: Samples,
        places: "Indices",
        recipe: "Recipe",
        cancelled: Callable[[], bool],
    ) -> "Trained":
        """What is sent in place of what was learnt. Raises TrainingError."""
        learnt = self._trainer.train(parameters, samples, places, recipe, cancelled)
        tampering = self._tampering()
        return learnt if tampering is None else _spoilt(learnt, parameters, tampering)

    def evaluate(
        self, parameters: "Parameters", samples: Samples, places: "Indices", cancelled: Callable[[], bool]
    ) -> "Evaluated":
        """As it is."""
        return self._trainer.evaluate(parameters, samples, places, cancelled)


def prototype_trainer(files: LearningFiles) -> Trainer:
    """The `federated.device.ports.MakeTrainer` of simulated devices: the graphs are bytes, the problem is known."""
    return PrototypeTrainer()


def first_prototypes(skill: float) -> "npt.NDArray[np.float32]":
    """Prototypes to start from: `skill` 1.0 has every class in its place, 0.0 each at that of the next one."""
    import numpy as np

    there = np.array(CENTRES, dtype=np.float32)
    return (skill * there + (1 - skill) * np.roll(there, -1, axis=0)).astype(np.float32)


def _spoilt(learnt: "Trained", sent: "Parameters", tampering: Tampering) -> "Trained":
    import numpy as np

    tampering.on_spoilt()
    before, after = (one[PROTOTYPES].astype(np.float32) for one in (sent, learnt.parameters))
    match tampering.poison:
        case "nan" | "inf":
            other = after.copy()
            other[0, 0] = np.float32(tampering.poison)
        case "scaled":
            other = (before + (after - before) * np.float32(tampering.factor)).astype(np.float32)
        case "sign_flipped":
            other = (before - (after - before) * np.float32(tampering.factor)).astype(np.float32)
        case "wrong_shape":
            other = after[:-1].copy()
        case "stale":
            tampering.first = tampering.first or learnt
            return tampering.first
    return type(learnt)({PROTOTYPES: other}, learnt.examples, learnt.loss)


def _whole(parameters: "Parameters") -> "Whole":
    import numpy as np

    from federated.device.training import TrainingError

    given = parameters[PROTOTYPES]
    if given.shape != LEARNING.parameters[0].shape:
        raise TrainingError(f"the task's parameters do not fit this release: {given.shape}")
    return np.rint(given.astype(np.float64) * UNIT).astype(np.int64)


def _distances(prototypes: "Whole", windows: "Whole") -> "Whole":
    """Squared distance of each window to each prototype, in units of 1/65536."""
    apart = windows[:, None, :] * UNIT - prototypes[None, :, :]
    squared: Whole = (apart * apart).sum(axis=2)
    return squared
