"""What the overview says: plain frozen values, ready for JSON and for the page. Nothing here is computed.

Times are integer nanoseconds since 1970, latencies milliseconds, accuracies and confidences shares of one. `None` says
"not measured", never zero.
"""

from typing import Literal

import msgspec

Stage = Literal["enrol", "train", "optimize", "sign", "roll_out", "watch", "learn"]
"""Where in the loop the fleet stands; the order of the story."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the values below: immutable and compared by value, so a viewer redraws only what changed."""


class Quality(Shape, frozen=True, kw_only=True):
    """What devices measured running one version: `accuracy` over predictions with feedback, `confidence` over all."""

    predictions: int = 0
    feedback: int = 0
    accuracy: float | None = None
    confidence: float | None = None
    p50_ms: float | None = None


class DeviceView(Shape, frozen=True, kw_only=True):
    """One device and the model in its main slot."""

    name: str
    labels: dict[str, str]
    online: bool
    phase: str
    version: int | None = None
    variant: str | None = None
    quality: Quality = Quality()
    updates_sent: int = 0
    note: str = ""
    """Why the newest document was refused, by the device or by the hub; empty when all is well."""


class GroupView(Shape, frozen=True, kw_only=True):
    """All devices that share the labels in `labels`, running `version`."""

    version: int
    labels: dict[str, str]
    devices: int
    quality: Quality


class CandidateView(Shape, frozen=True, kw_only=True):
    """One form of a version that the optimizer measured."""

    name: str
    bytes: int
    kept: bool
    shipped: bool
    reasons: tuple[str, ...] = ()
    accuracy: float | None = None
    p50_ms: float | None = None


class VersionView(Shape, frozen=True, kw_only=True):
    """One version of a model with its candidates and where it came from."""

    model: str
    version: int
    state: str
    reason: str
    origin: Literal["trained", "federated"]
    job: str
    parent_version: int | None
    federated_run: str | None
    data_sha256: str
    fp32_bytes: int
    candidates: tuple[CandidateView, ...] = ()


class GateView(Shape, frozen=True, kw_only=True):
    """One comparison of a gate, and what was seen in words. `passed` is None while it cannot be judged."""

    name: str
    passed: bool | None
    evidence: str


class WaveView(Shape, frozen=True, kw_only=True):
    """One wave: `planned` devices, of which so many committed or failed."""

    number: int
    planned: int
    committed: int
    failed: int
    state: Literal["waiting", "running", "passed", "halted"]


class RolloutView(Shape, frozen=True, kw_only=True):
    """One rollout of one version."""

    id: str
    model: str
    version: int
    state: str
    reason: str
    started_ns: int
    waves: tuple[WaveView, ...]
    gates: tuple[GateView, ...]


class RoundView(Shape, frozen=True, kw_only=True):
    """One federated round; `accuracy` is the mean over the devices' own holdouts, where that round was evaluated."""

    round: int
    clients: int
    seconds: float
    bytes_down: int
    bytes_up: int
    loss: float | None = None
    accuracy: float | None = None


class FederatedView(Shape, frozen=True, kw_only=True):
    """One federated run on top of `model` `version`."""

    id: str
    model: str
    version: int
    strategy: str
    state: str
    reason: str
    clients: int
    rounds_planned: int
    rounds: tuple[RoundView, ...] = ()
    accuracy_before: float | None = None
    """Mean accuracy over the devices' own holdouts of what the run starts from."""
    accuracy_after: float | None = None
    """The same of what it ended with."""
    verdict: str = ""
    result_version: int | None = None


class JobView(Shape, frozen=True, kw_only=True):
    """One job of the hub: what it does, how far it is, and which stage of the loop that is."""

    id: str
    kind: str
    state: str
    stage: Stage
    progress: str


class EventView(Shape, frozen=True, kw_only=True):
    """One line of the audit trail."""

    at_ns: int
    actor: str
    action: str
    subject: str
    detail: str = ""


class Overview(Shape, frozen=True, kw_only=True):
    """The whole loop at one moment. Newest version, rollout and run come last, newest event first."""

    now_ns: int
    stage: Stage
    headline: str
    devices: tuple[DeviceView, ...] = ()
    groups: tuple[GroupView, ...] = ()
    versions: tuple[VersionView, ...] = ()
    rollouts: tuple[RolloutView, ...] = ()
    federated: tuple[FederatedView, ...] = ()
    jobs: tuple[JobView, ...] = ()
    events: tuple[EventView, ...] = ()
