"""Answering the application: one live model per slot, swapped without dropping a prediction.

During a trial the model before it stays loaded: should the trial model fail on an input, that one answers instead and
the failure goes to the update machine. Captures are joined to an answer before it is given, but never fail one.
"""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edge_agent.core.slot import Deployed
from edge_agent.core.stats import Variant
from edge_agent.errors import (
    AgentError,
    DiskError,
    ModelError,
    NoModelError,
    PredictionFailedError,
    RequestError,
)
from edge_agent.ports import Ports, Prediction, Session
from edge_agent.service.objects import Objects, path_of
from wire.release import Release

if TYPE_CHECKING:
    from edge_agent.ports import Floats

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory."""

    deployed: Deployed
    release: Release
    session: Session

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self.release.input.shape[1:]


@dataclass(frozen=True, slots=True)
class Serving:
    """Who answers for a slot, and who stands in during a trial."""

    live: Loaded
    stand_in: Loaded | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the application gets."""

    id: str
    label: int
    name: str
    confidence: float
    version: int
    variant: str


class Inference:
    """The loaded models."""

    __slots__ = ("_objects", "_ports", "_serving", "on_answered", "on_renewed", "on_trial_failed")

    def __init__(self, ports: Ports, objects: Objects) -> None:
        self._ports = ports
        self._objects = objects
        self._serving: dict[str, Serving] = {}
        self.on_trial_failed: Callable[[str, str, str], None] = lambda slot, sha256, reason: None
        """(slot, sha256 of the model, reason): set by the reconciler."""
        self.on_answered: Callable[[], None] = _nobody
        """Something was counted: set by the telemetry."""
        self.on_renewed: Callable[[], None] = _nobody
        """Another model answers from now on: set by the telemetry."""

    def live(self, slot: str) -> Deployed | None:
        """What answers for `slot`."""
        serving = self._serving.get(slot)
        return serving.live.deployed if serving else None

    @property
    def slots(self) -> tuple[str, ...]:
        """Slots that have a model."""
        return tuple(sorted(self._serving))

    async def serve(self, slot: str, deployed: Deployed | None) -> None:
        """Let `deployed` alone answer from now on. Raises ModelError; what served before goes on then."""
        if deployed is None:
            self._serving.pop(slot, None)
            return
        loaded = self._find(slot, deployed) or await self._load(deployed)
        self._swap(slot, Serving(loaded))

    async def serve_trial(self, slot: str, deployed: Deployed) -> None:
        """Let `deployed` answer, and keep the present model as its stand-in. Raises ModelError."""
        before = self._serving.get(slot)
        loaded = await self._load(deployed)
        self._swap(slot, Serving(loaded, before.live if before else None))

    def ready(self, slot: str = "") -> Loaded:
        """The model that will answer for `slot` (or for the only slot). Raises NoModelError."""
        return self._pick(slot).live

    async def predict(self, x: "Floats", slot: str = "") -> Answer:
        """Classify one input, float32 of the model's input shape, or flat with as many values.

        Raises:
            NoModelError: no model is committed or on trial for this slot.
            RequestError: another shape, or values that are not finite.
            PredictionFailedError: the model failed on this input.
        """
        serving = self._pick(slot)
        window = _fitting(x, serving.live.shape)
        try:
            return await self._answer(serving.live, window)
        except ModelError as error:
            if serving.stand_in is None or serving.stand_in.shape != serving.live.shape:
                self._tell(serving, error)
                raise PredictionFailedError(str(error)) from error
            self._tell(serving, error)
            return await self._stand_in(serving.stand_in, window)

    async def feedback(self, prediction_id: str, label: int) -> None:
        """Tell the truth (number of a class) about an earlier answer, once. Raises RequestError and its kinds."""
        live = [one.live for one in self._serving.values()]
        if not live:
            raise NoModelError("no model is installed yet")
        known = sorted((one.deployed.installed.model, len(one.release.classes)) for one in live)
        await self._ports.captures.feedback(prediction_id, label, dict(known))  # of one model's versions, the most
        self.on_answered()

    async def _stand_in(self, loaded: Loaded, window: "Floats") -> Answer:
        try:
            return await self._answer(loaded, window)
        except ModelError as error:
            raise PredictionFailedError(str(error)) from error

    async def _answer(self, loaded: Loaded, window: "Floats") -> Answer:
        began_ns = self._ports.clock.monotonic_ns()
        logits = await loaded.session.predict(window[None])
        latency_ns = self._ports.clock.monotonic_ns() - began_ns
        label, confidence = _classify(logits)
        installed, classes = loaded.deployed.installed, loaded.release.classes
        prediction = Prediction(
            id=self._ports.ids.new(),
            variant=Variant(installed.model, installed.version, installed.variant),
            window=window.tobytes(),
            shape=window.shape,
            predicted=label,
            confidence=confidence,
            latency_ns=latency_ns,
            at_ns=self._ports.clock.now_ns(),
        )
        with contextlib.suppress(DiskError):  # an answer matters more than its record
            await self._ports.captures.record(prediction)
        self.on_answered()
        name = classes[label] if label < len(classes) else str(label)
        return Answer(prediction.id, label, name, confidence, installed.version, installed.variant)

    async def _load(self, deployed: Deployed) -> Loaded:
        try:
            release = await self._objects.release(deployed)
        except AgentError as error:
            raise ModelError(str(error)) from error
        path = path_of(deployed.installed.sha256)
        try:
            session = await self._ports.runtime.load(path)
        except ModelError as error:  # a good model is not given up because the system was short of something
            log.warning("%s is loaded once more: %s", deployed.installed.sha256[:12], error)
            session = await self._ports.runtime.load(path)
        return Loaded(deployed, release, session)

    def _swap(self, slot: str, serving: Serving) -> None:
        before, self._serving[slot] = self._serving.get(slot), serving
        if before is None or before.live.deployed.installed != serving.live.deployed.installed:
            self.on_renewed()

    def _find(self, slot: str, deployed: Deployed) -> Loaded | None:
        serving = self._serving.get(slot)
        for loaded in (serving.live, serving.stand_in) if serving else ():
            if loaded and loaded.deployed.installed == deployed.installed:
                return replace(loaded, deployed=deployed)
        return None

    def _pick(self, slot: str) -> Serving:
        if not self._serving:
            raise NoModelError("no model is installed yet")
        if not slot:
            if len(self._serving) > 1:
                raise RequestError(f"several slots have a model, name one of {', '.join(self.slots)}")
            return next(iter(self._serving.values()))
        serving = self._serving.get(slot)
        if serving is None:
            raise NoModelError(f"slot {slot!r} has no model; there is one in {', '.join(self.slots)}")
        return serving

    def _tell(self, serving: Serving, error: ModelError) -> None:
        slot = next((name for name, one in self._serving.items() if one is serving), None)
        if slot is not None:
            self.on_trial_failed(slot, serving.live.deployed.installed.sha256, f"prediction failed: {error}")


def _nobody() -> None:
    """Nobody wants to know."""


def _fitting(x: "Floats", shape: tuple[int, ...]) -> "Floats":
    import numpy as np

    size = int(np.prod(shape))
    if x.shape not in (shape, (size,)):
        raise RequestError(f"the model takes float32 {list(shape)} ({size} values), got {list(x.shape)}")
    if not np.isfinite(x).all():
        raise RequestError("the input has values that are not finite")
    return np.ascontiguousarray(x, dtype=np.float32).reshape(shape)


def _classify(logits: "Floats") -> tuple[int, float]:
    """Most likely class of logits [1, classes] and its softmax probability. Raises ModelError on anything else."""
    import numpy as np

    shape = np.shape(logits)
    if len(shape) != 2 or shape[0] != 1 or shape[1] == 0:
        raise ModelError(f"the model gave logits of shape {shape} for one input")
    logits = logits[0]
    if not np.isfinite(logits).all():
        raise ModelError("the model gave logits that are not finite numbers")
    weights = np.exp(logits - logits.max())
    label = int(logits.argmax())
    return label, float(weights[label] / weights.sum())
