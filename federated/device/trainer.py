"""Learning on the device: numpy feeds the release's train-step and eval graphs to stock onnxruntime. No torch.

The train-step graph runs a whole scan of batches per call; a call is kept short so that the work can be cancelled
between scans. One thread, no memory arena: inference goes on beside it and the memory is given back.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from federated.device.ports import LearningFiles, Samples
from federated.device.training import (
    CancelledError,
    DivergedError,
    Evaluated,
    Indices,
    Recipe,
    Trained,
    TrainingError,
    batches,
)
from federated.records import Arrays

STEPS_PER_SCAN: Final = 16
EVAL_BATCH: Final = 64


class OnnxTrainer:
    """The sessions of one release. Make one per federated run and drop it afterwards."""

    def __init__(self, files: LearningFiles) -> None:
        self._files = files
        self._learning = files.learning
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}

    def train(
        self,
        parameters: Mapping[str, NDArray[np.generic]],
        samples: Samples,
        places: Indices,
        recipe: Recipe,
        cancelled: Callable[[], bool],
    ) -> Trained:
        """Run `recipe.epochs` over the windows at `places`, from `parameters` and zero momentum.

        Raises:
            CancelledError: `cancelled()` became true.
            DivergedError: the loss or the parameters left the finite numbers.
            TrainingError: nothing to train on, or a graph that cannot be loaded.
        """
        if len(places) == 0:
            raise TrainingError("there are no windows to train on")
        session = self._session(self._files.train_step)
        rng = np.random.default_rng(recipe.seed)
        state: Arrays = {f"in.p.{name}": self._parameter(parameters, name) for name in self._names}
        state |= {f"in.m.{name}": np.zeros_like(state[f"in.p.{name}"]) for name in self._names}
        fixed = {
            "X": samples.x,
            "Y": samples.y,
            "lr": np.asarray(recipe.lr, np.float32),
            "mu": np.asarray(recipe.momentum, np.float32),
        }
        loss = float("nan")
        for _ in range(recipe.epochs):
            losses: list[NDArray[np.float32]] = []
            order = batches(places, self._learning.batch, rng)
            for start in range(0, len(order), STEPS_PER_SCAN):
                if cancelled():
                    raise CancelledError("the task is no longer wanted")
                state, some = self._scan(session, state, fixed, order[start : start + STEPS_PER_SCAN])
                losses.append(some)
            loss = float(np.concatenate(losses).mean())
            if not np.isfinite(loss):
                raise DivergedError("the training loss became NaN or infinite; lower the learning rate")
        parameters = {name: state[f"in.p.{name}"] for name in self._names}
        if not all(np.isfinite(array).all() for array in parameters.values()):
            raise DivergedError("the parameters became NaN or infinite; lower the learning rate")
        return Trained(parameters, len(places), loss)

    def evaluate(
        self,
        parameters: Mapping[str, NDArray[np.generic]],
        samples: Samples,
        places: Indices,
        cancelled: Callable[[], bool],
    ) -> Evaluated:
        """Judge `parameters` by the windows at `places`.

        Raises:
            CancelledError: `cancelled()` became true.
            DivergedError: the outputs are not finite.
            TrainingError: nothing to judge by, or a graph that cannot be loaded.
        """
        if len(places) == 0:
            raise TrainingError("there are no holdout windows to evaluate on")
        session = self._session(self._files.eval)
        inputs = {f"p.{name}": self._parameter(parameters, name) for name in self._names}
        right, loss = 0, 0.0
        for start in range(0, len(places), EVAL_BATCH):
            if cancelled():
                raise CancelledError("the task is no longer wanted")
            some = places[start : start + EVAL_BATCH]
            logits = session.run(["logits"], {**inputs, "x": samples.x[some]})[0]
            right += int((logits.argmax(1) == samples.y[some]).sum())
            loss += _cross_entropy_sum(logits, samples.y[some])
        if not np.isfinite(loss):
            raise DivergedError("the model's outputs are not finite")
        return Evaluated(len(places), right / len(places), loss / len(places))

    @property
    def _names(self) -> list[str]:
        return [tensor.name for tensor in self._learning.parameters]

    def _parameter(self, parameters: Mapping[str, NDArray[np.generic]], name: str) -> NDArray[np.float32]:
        shape = next(tensor.shape for tensor in self._learning.parameters if tensor.name == name)
        if name not in parameters or parameters[name].shape != shape:
            raise TrainingError(f"the task's parameters do not fit this release: {name!r} should have shape {shape}")
        return parameters[name].astype(np.float32)

    def _scan(
        self, session: onnxruntime.InferenceSession, state: Arrays, fixed: Mapping[str, object], order: Indices
    ) -> tuple[Arrays, NDArray[np.float32]]:
        names = [name.removeprefix("in.") for name in state]
        outputs = session.run([f"out.{name}" for name in names] + ["losses"], {**state, **fixed, "idx": order})
        return {f"in.{name}": value for name, value in zip(names, outputs, strict=False)}, outputs[-1]

    def _session(self, path: str) -> onnxruntime.InferenceSession:
        if path not in self._sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.enable_cpu_mem_arena = False
            options.log_severity_level = 3
            try:
                session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            except Exception as error:  # onnxruntime raises several unrelated kinds
                raise TrainingError(f"this device's onnxruntime cannot load the graph: {error}") from error
            self._sessions[path] = session
        return self._sessions[path]


def _cross_entropy_sum(logits: NDArray[np.float32], labels: Indices) -> float:
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    log_total = np.log(np.exp(shifted).sum(1))
    return float((log_total - shifted[np.arange(len(labels)), labels]).sum())
