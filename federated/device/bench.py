"""One task done from beginning to end: conditions checked, parameters fetched, trained or evaluated, answer written.

Whatever stands against it becomes a refusal with its reason. numpy and onnxruntime are loaded by the first task, and
what a run needs (sessions, the windows captured so far) is kept until the client lets go of it.
"""

import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from federated.device.ports import Host, HostError
from wire.assignment import FederatedPolicy
from wire.codec import encode
from wire.errors import WireError
from wire.federated import Record, Reply, Task, Value
from wire.ports import Offload
from wire.release import object_ref

if TYPE_CHECKING:
    from federated.device.ports import LearningFiles, Samples, Trainer
    from federated.device.training import Recipe, Split
    from federated.records import Arrays

log = logging.getLogger(__name__)

TRAIN: Final = "train"
EVALUATE: Final = "evaluate"
MAX_EPOCHS: Final = 100


class Stop:
    """A flag that the worker looks at between scans."""

    def __init__(self) -> None:
        self.is_set = False

    def set(self) -> None:
        """Ask the work to end."""
        self.is_set = True

    def __call__(self) -> bool:
        """Shall the work end?"""
        return self.is_set


class Finished(NamedTuple):
    """An encoded wire.federated.Reply and the arrays object that it offers (may be empty)."""

    ok: bool
    reply: bytes
    arrays: bytes


class RefusalError(Exception):
    """The device does not take part; the message is the reason."""


class _Kit(NamedTuple):
    """What the tasks of one run share. The windows are frozen at its first task, so that the holdout stays the same."""

    run: str
    model: str
    version: int
    trainer: "Trainer"
    samples: "Samples"
    split: "Split"


class Bench:
    """Does tasks, one at a time."""

    __slots__ = ("_device", "_host", "_kit", "_offload")

    def __init__(self, device: str, offload: Offload, host: Host) -> None:
        self._device = device
        self._offload = offload
        self._host = host
        self._kit: _Kit | None = None

    def let_go(self) -> None:
        """Drop sessions and windows."""
        self._kit = None

    async def perform(self, task: Task, stop: Stop) -> Finished:
        """The answer to `task`; never raises for what a task, a host or a model can do wrong."""
        try:
            self._check_conditions(task)
            kit = await self._kit_for(task)
            parameters = await self._parameters(task)
            if _base_kind(task) == TRAIN:
                return await self._train(task, kit, parameters, stop)
            return await self._evaluate(task, kit, parameters, stop)
        except (RefusalError, HostError, WireError) as error:
            return _refusal(task, str(error))
        except Exception as error:  # the daemon must outlive any task
            log.exception("federated task %s", task.task)
            return _refusal(task, f"{type(error).__name__}: {error}")

    def _check_conditions(self, task: Task) -> None:
        if not self._host.policy().enabled:
            raise RefusalError("this device's policy does not allow federated learning")
        if _base_kind(task) not in (TRAIN, EVALUATE):
            raise RefusalError(f"unknown kind of task {task.kind!r}")
        if task.deadline_ns and self._host.now_ns() >= task.deadline_ns:
            raise RefusalError("the deadline has passed")
        if task.arrays is None:
            raise RefusalError("the task brings no parameters")

    async def _kit_for(self, task: Task) -> _Kit:
        kit = self._kit
        if kit is not None and (kit.run, kit.model, kit.version) == (task.run, task.model, task.version):
            return kit
        self._kit = None
        policy = self._host.policy()
        files = await self._host.learning(task.model, task.version)
        if files is None:
            raise RefusalError(f"{task.model} version {task.version} is not what runs here")
        samples = await self._host.samples(task.model)
        if len(samples.y) < policy.min_samples:
            raise RefusalError(
                f"too few samples: {len(samples.y)} labelled windows, the policy asks for {policy.min_samples}"
            )
        self._kit = await self._offload.run(lambda: self._make_kit(task, files, samples, policy))
        return self._kit

    def _make_kit(self, task: Task, files: "LearningFiles", samples: "Samples", policy: FederatedPolicy) -> _Kit:
        from federated.device.training import split

        parts = split(samples.y, policy.holdout_share)
        return _Kit(task.run, task.model, task.version, self._host.trainer(files), samples, parts)

    async def _parameters(self, task: Task) -> "Arrays":
        from federated.records import ARRAYS, from_object

        assert task.arrays is not None
        data = await self._host.fetch(task.arrays)
        return from_object(data, task.records).get(ARRAYS, {})

    async def _train(self, task: Task, kit: _Kit, parameters: "Arrays", stop: Stop) -> Finished:
        from federated.records import ARRAYS, METRICS, to_object

        recipe = _recipe(self._device, task)
        trained = await self._offload.run(
            lambda: kit.trainer.train(parameters, kit.samples, kit.split.train, recipe, stop)
        )
        ordered = {name: trained.parameters[name] for name in parameters}
        arrays = to_object({ARRAYS: ordered})
        figures: dict[str, Value] = {"num-examples": trained.examples, "train-loss": trained.loss}
        records = (
            Record(name=ARRAYS, kind="arrays", keys=tuple(ordered)),
            Record(name=METRICS, kind="metrics", values=figures),
        )
        reply = Reply(run=task.run, task=task.task, ok=True, records=records, arrays=object_ref(arrays))
        return Finished(True, encode(reply), arrays)

    async def _evaluate(self, task: Task, kit: _Kit, parameters: "Arrays", stop: Stop) -> Finished:
        from federated.records import METRICS

        judged = await self._offload.run(lambda: kit.trainer.evaluate(parameters, kit.samples, kit.split.holdout, stop))
        figures: dict[str, Value] = {
            "num-examples": judged.examples,
            "eval-acc": judged.accuracy,
            "eval-loss": judged.loss,
        }
        records = (Record(name=METRICS, kind="metrics", values=figures),)
        return Finished(True, encode(Reply(run=task.run, task=task.task, ok=True, records=records)), b"")


def _recipe(device: str, task: Task) -> "Recipe":
    from federated.device.training import Recipe, seed_of
    from federated.records import CONFIG, values

    config = values(task.records, CONFIG)
    epochs = config.get("local-epochs")
    if not isinstance(epochs, int) or not 1 <= epochs <= MAX_EPOCHS:
        raise RefusalError(f"config 'local-epochs' must be a whole number from 1 to {MAX_EPOCHS}")
    lr, momentum, seed = (_number(config, name) for name in ("lr", "momentum", "seed"))
    return Recipe(epochs, lr, momentum, seed_of(device, int(seed), task.round))


def _number(config: dict[str, Value], name: str) -> float:
    value = config.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise RefusalError(f"config {name!r} must be a number, 0 or greater")
    return value


def _base_kind(task: Task) -> str:
    return task.kind.partition(".")[0]


def _refusal(task: Task, reason: str) -> Finished:
    return Finished(False, encode(Reply(run=task.run, task=task.task, ok=False, reason=reason[:500])), b"")
