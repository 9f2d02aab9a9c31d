"""What the HTTP API takes and gives about rollouts; `core.rollout.plan` explains and bounds the fields of a plan."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field

from cloud.api.schemas.base import Count, Label, Labels, Name, Request, VersionNumber
from cloud.core.gates import judge
from cloud.core.rollout import plan, windows

_BOUNDS = ("ge", "gt", "le", "lt", "min_length", "max_length")


def _as(kind: object) -> Any:
    """The bounds of a type of the plan, as pydantic and OpenAPI know them."""
    _, meta = get_args(kind)
    return Field(**{name: getattr(meta, name) for name in _BOUNDS if getattr(meta, name) is not None})


Seconds = Annotated[float, _as(windows.Seconds)]
Patience = Annotated[float, _as(plan.Patience)]
ErrorRate = Annotated[float, _as(judge.ErrorRate)]
Expression = Annotated[str, _as(judge.Expression)]
Many = Annotated[int, _as(plan.Many)]


class WaveRequest(Request):
    """How many devices have been reached once it is out: exactly one of a count or a share (25, then 100 percent)."""

    count: Count | None = None
    percent: Annotated[float, _as(plan.Percent)] | None = None
    selector: Labels = {}
    """Only devices with all these labels; the percentage is then of those."""
    approval: bool = False
    """It opens only when somebody has approved it, after the gates of the wave before have passed."""
    soak_s: Seconds = 0.0
    """How long it is watched after its last execution ended, before the rollout goes on."""


class GateRequest(Request):
    """An expression such as "latency_ms <= 1.2 * previous(latency_ms)", and how surely it is decided."""

    expression: Expression
    false_halt: ErrorRate = 0.05
    """Chance of halting a version that is good, over the whole rollout."""
    missed_halt: ErrorRate = 0.05
    """Chance of letting a version pass that is bad."""
    indifference: Annotated[float, _as(judge.Indifference)] | None = None
    """Distance between good and bad in the fact's unit (a share, where ratios are compared). None: what the expression
    allows beside "no change", or 5 points of a share, or 10 %."""
    minimum_sample: Count | None = None
    """Devices needed before it is decided. None: 1 for a proportion of devices, 10 for a mean."""
    undecided: Literal["hold", "proceed"] = "hold"
    """When a wave has ended without a decision: go on only if its own figures meet the gate, or in any case."""


class RateRequest(Request):
    """At most `per_minute` devices in any minute, times `factor` for every `step` that committed, up to `most`."""

    per_minute: Many
    factor: Annotated[float, _as(plan.Factor)] = 1.0
    step: Count = 50
    most: Many = 1_000_000


class DisruptionRequest(Request):
    """At most so many devices with the same value of `label` are under way at a time."""

    label: Label
    max_unavailable: Count


class RetryRequest(Request):
    """Executions that end in one of `outcomes` are repeated; the device waits, twice as long each time."""

    outcomes: Annotated[list[Literal["failed_no_change", "timed_out", "rolled_back"]], _as(plan.Outcomes)] = [
        "failed_no_change",
        "timed_out",
    ]
    attempts: Annotated[int, _as(plan.Attempts)] = 3
    delay_s: Seconds = 60.0
    budget: Annotated[int, _as(plan.Repetitions)] = 1_000_000
    """Repetitions in the whole rollout."""


class WindowRequest(Request):
    """Within `duration_s` after each moment of `cron` (five fields) in the IANA `zone`."""

    cron: Annotated[str, _as(windows.Cron)]
    zone: Annotated[str, _as(windows.Zone)] = "UTC"
    duration_s: Annotated[float, _as(windows.Open)]
    jitter_s: Seconds = 0.0
    """Devices start spread over this time."""


class RolloutRequest(Request):
    """Bring every device that the selector matches (all labels equal; {} = all) to a released version."""

    model: Name
    version: VersionNumber
    slot: Name = "main"
    selector: Labels = {}
    waves: Annotated[list[WaveRequest], _as(plan.Waves)]
    gates: Annotated[list[Expression | GateRequest], _as(plan.Gates)] = [
        "commit_rate >= 100 %",
        "golden_agreement >= 100 %",
    ]
    health_window_s: Annotated[float, _as(plan.HealthWindow)] = 5.0
    step_timeout_s: Patience = 60.0
    total_timeout_s: Patience = 600.0
    evidence_timeout_s: Seconds = 3600.0
    """How long a wave that has ended waits for figures that its gates lack; then the rollout is halted."""
    rate: RateRequest | None = None
    max_in_flight: Count | None = None
    disruption: DisruptionRequest | None = None
    retry: RetryRequest | None = None
    window: WindowRequest | None = None
    """When devices are told and may begin to download."""
    install_window: WindowRequest | None = None
    """When they may install what they have downloaded; until then they go on with what they have."""
    variant: Name | None = None
    """None = the variant that the optimizer chose."""


class VerdictView(BaseModel):
    """What one comparison says, and the figures that it was decided by."""

    gate: str
    decision: Literal["undecided", "passed", "refused"]
    passed: bool
    """It does not keep the wave from going on."""
    value: float | None
    threshold: float
    sample: int
    text: str
    statistics: dict[str, float]


class WaveView(BaseModel):
    """A wave and how far it is. `failed` includes those `acknowledged`."""

    index: int
    state: Literal["waiting", "open", "passed", "halted"]
    planned: int
    waiting: int
    assigned: int
    committed: int
    failed: int
    acknowledged: int
    gates: list[VerdictView]
    """Newest evidence."""


class MemberView(BaseModel):
    """A device in a rollout. `figures`: what gates have seen of it, by kind (now, before, control) and fact."""

    device: str
    wave: int
    status: Literal["waiting", "in_flight", "ended"]
    execution: str
    attempt: int
    outcome: str | None
    reason: str
    figures: dict[str, dict[str, float]]


class RolloutView(BaseModel):
    """A rollout, wave by wave. `outcomes`: how many executions ended how; `retries`: attempts that were repeated."""

    id: str
    model: str
    version: int
    slot: str
    selector: dict[str, str]
    plan: dict[str, Any]
    state: Literal["running", "waiting_for_approval", "paused", "halted", "aborted", "succeeded"]
    wave: int
    reason: str
    reverts: str | None
    planned: int
    committed: int
    failed: int
    retries: int
    outcomes: dict[str, int] = {}
    waves: list[WaveView]
    created_ns: int
    finished_ns: int | None
