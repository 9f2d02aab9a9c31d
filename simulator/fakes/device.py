"""What else a simulated device has: a memory for captures that outlives a power cut, and facts about its computer."""

import asyncio
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from edge_agent.core.stats import Classes, Tally, Variant, check_label, latency_bucket
from edge_agent.errors import FeedbackGivenError, UnknownPredictionError
from edge_agent.ports import Counts, Prediction
from simulator.fakes.runtime import RSS_BYTES
from wire.assignment import CapturePolicy
from wire.messages import Capabilities

if TYPE_CHECKING:
    from edge_agent.ports import Floats, Labels


NOTHING: Final = Counts((), 0)
"""What most devices of a large fleet have counted."""


class MemoryCaptures:
    """The `edge_agent.ports.Captures`, bounded by the policy's number of samples."""

    __slots__ = ("_kept", "_policy", "_tallies")

    def __init__(self) -> None:
        self._policy = CapturePolicy()
        self._kept: OrderedDict[str, tuple[Prediction, int | None]] = OrderedDict()
        self._tallies: dict[Variant, Tally] = {}

    @property
    def tallies(self) -> tuple[Tally, ...]:
        """What was counted, for checks from outside."""
        return tuple(self._tallies.values())

    async def set_policy(self, policy: CapturePolicy) -> None:
        """Bounds from now on."""
        await asyncio.sleep(0)
        self._policy = policy
        self._evict()

    async def record(self, prediction: Prediction) -> None:
        """Count it and keep it."""
        await asyncio.sleep(0)
        tally = self._tallies.pop(prediction.variant, Tally(prediction.variant))
        latency = latency_bucket(prediction.latency_ns)
        self._tallies[prediction.variant] = replace(
            tally,
            predictions=tally.predictions + 1,
            confidence_sum=tally.confidence_sum + prediction.confidence,
            latency_us=tally.latency_us | {latency: tally.latency_us.get(latency, 0) + 1},
        )
        if self._policy.enabled:
            self._kept[prediction.id] = (prediction, None)
            self._evict()

    async def feedback(self, prediction_id: str, label: int, classes: Classes) -> None:
        """Join the truth, once."""
        await asyncio.sleep(0)
        if prediction_id not in self._kept:
            raise UnknownPredictionError(f"no prediction {prediction_id!r}")
        prediction, given = self._kept[prediction_id]
        if given is not None:
            raise FeedbackGivenError(f"feedback for {prediction_id!r} was given before")
        check_label(label, prediction.variant.model, classes)
        self._kept[prediction_id] = (prediction, label)
        tally = self._tallies[prediction.variant]
        correct = tally.correct + (label == prediction.predicted)
        self._tallies[prediction.variant] = replace(tally, feedback=tally.feedback + 1, correct=correct)

    async def samples(self, model: str) -> "tuple[Floats, Labels]":
        """Labelled windows of this model, in capture order."""
        import numpy as np

        await asyncio.sleep(0)
        shown = [(one, label) for one, label in self._kept.values() if one.variant.model == model]
        labelled = [(one, label) for one, label in shown if label is not None]
        windows = [np.frombuffer(one.window, dtype=np.float32).reshape(one.shape) for one, _ in labelled]
        x = np.stack(windows) if windows else np.zeros((0, 1), dtype=np.float32)
        return x, np.array([label for _, label in labelled], dtype=np.int64)

    async def counts(self) -> Counts:
        """The counters."""
        await asyncio.sleep(0)
        return Counts(tuple(self._tallies.values()), len(self._kept)) if self._tallies else NOTHING

    def close(self) -> None:
        """Nothing to close."""

    def _evict(self) -> None:
        while len(self._kept) > self._policy.max_samples:
            self._kept.popitem(last=False)


class FixedMachine:
    """The `edge_agent.ports.Machine` of a device class; by default a small computer with a recent runtime."""

    def __init__(self, engines: dict[str, str] | None = None, max_opset: int = 21, ram_bytes: int = 1 << 30) -> None:
        self._engines = {"onnxruntime": "1.20.0"} if engines is None else engines
        self._max_opset = max_opset
        self._ram_bytes = ram_bytes

    def capabilities(self, free_bytes: int) -> Capabilities:
        """What its class can run."""
        return Capabilities(
            engines=self._engines,
            max_opset=self._max_opset,
            machine="simulated",
            python="3.11",
            ram_bytes=self._ram_bytes,
            disk_free_bytes=free_bytes,
            modules={"flwr": False, "torch": False},
        )

    def peak_rss_bytes(self) -> int:
        """Always the same."""
        return RSS_BYTES
