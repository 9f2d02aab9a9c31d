"""What the federated client needs of the program it lives in. The agent implements `Host`; tests have a small one.

Every coroutine here must end by itself within a bounded time: timeouts belong to the implementation.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from wire.assignment import FederatedPolicy
from wire.release import Learning, ObjectRef

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from federated.device.training import Evaluated, Indices, Recipe, Trained


class HostError(Exception):
    """The host could not give what was asked for; the message says why and travels to the cloud as the reason."""


class Samples(NamedTuple):
    """Labelled windows in capture order: `x` float32 [N, ...] as the model takes them, `y` int64 [N]."""

    x: "NDArray[np.float32]"
    y: "NDArray[np.int64]"


class LearningFiles(NamedTuple):
    """The verified graphs of one release on this device's disk, and how to feed them."""

    train_step: str
    """Path of the train-step graph."""
    eval: str
    """Path of the eval graph."""
    learning: Learning


class Trainer(Protocol):
    """Learns with the graphs of one release, away from the event loop. `places` are positions in the samples;
    `cancelled` is asked between short pieces of work."""

    def train(
        self,
        parameters: "Mapping[str, NDArray[np.generic]]",
        samples: Samples,
        places: "Indices",
        recipe: "Recipe",
        cancelled: Callable[[], bool],
    ) -> "Trained":
        """New parameters, from these. Raises TrainingError with the reason that the cloud is told."""

    def evaluate(
        self,
        parameters: "Mapping[str, NDArray[np.generic]]",
        samples: Samples,
        places: "Indices",
        cancelled: Callable[[], bool],
    ) -> "Evaluated":
        """How good the parameters are on these windows. Raises TrainingError."""


MakeTrainer = Callable[[LearningFiles], Trainer]


class Remembered(NamedTuple):
    """An answer as it was given: `reply` is the encoded wire.federated.Reply, `arrays` its object (may be empty)."""

    reply: bytes
    arrays: bytes


class Host(Protocol):
    """The device around the client."""

    def policy(self) -> FederatedPolicy:
        """The policy of the newest accepted assignment (disabled when there is none)."""

    def now_ns(self) -> int:
        """Nanoseconds since 1970, as well as the device knows: the cloud's deadlines are judged by it."""

    async def fetch(self, ref: ObjectRef) -> bytes:
        """The object, its digest checked. Raises HostError when it cannot be had in time."""

    async def learning(self, model: str, version: int) -> LearningFiles | None:
        """The companions of the committed release, fetched and verified if need be; None if another one is running."""

    def trainer(self, files: LearningFiles) -> Trainer:
        """What learns with these graphs. Called away from the event loop. Raises TrainingError."""

    async def samples(self, model: str) -> Samples:
        """What `model` was shown and told the truth about, in capture order; nothing of other slots' models."""

    async def remember(self, task: str, reply: bytes, arrays: bytes) -> None:
        """Keep an answer durably until `forget`. `task` is a plain word of at most 200 characters."""

    async def recall(self, task: str) -> Remembered | None:
        """The answer given earlier to `task`, across restarts."""

    async def forget(self, task: str, *, update_accepted: bool) -> None:
        """The cloud needs the answer no longer. `update_accepted`: it was a trained update and was taken; count it.

        A late copy of the task may have it trained, sent and taken once more: it counts once.
        """
