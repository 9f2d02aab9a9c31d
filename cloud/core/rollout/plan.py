"""What an operator orders: waves, gates, and how fast, how many at once, when and how often a device is asked.

A plan that could keep a rollout waiting for ever, or that contradicts itself, is refused when it is made.
"""

from dataclasses import dataclass, field
from typing import Final

from cloud.core.gates.judge import COMMITTED, Gate, rules
from cloud.core.gates.language import GateError
from cloud.core.rollout.windows import Window, why_never
from wire.messages import Outcome

RETRYABLE: Final = frozenset({Outcome.FAILED_NO_CHANGE, Outcome.TIMED_OUT, Outcome.ROLLED_BACK})
"""How an execution may end and be tried again. A rejection is the device's last word."""


class PlanError(Exception):
    """A plan that cannot be carried out; the message begins with the field."""


@dataclass(frozen=True, slots=True)
class Wave:
    """Devices reached in all once this wave is out: a number of them or a share in percent, of those left of the
    selector where it has one.

    `approval`: a person has to approve before it opens. `soak_s`: how long it is watched, after its last execution
    ended, before the next wave opens or the rollout ends.
    """

    count: int | None = None
    percent: float | None = None
    selector: dict[str, str] = field(default_factory=dict)
    approval: bool = False
    soak_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Rate:
    """Devices that may be asked in any minute: `per_minute`, times `factor` for every `step` devices that committed,
    up to `most`. Nothing is let through in a burst: a second gets its sixtieth, rounded up."""

    per_minute: int
    factor: float = 1.0
    step: int = 1
    most: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Disruption:
    """At most so many devices with the same value of `label` are under way at a time."""

    label: str
    max_unavailable: int


@dataclass(frozen=True, slots=True)
class Retry:
    """Executions that ended in one of `outcomes` are repeated, up to `attempts` per device and `budget` in all.

    The device waits `delay_s` before the second attempt, and twice as long before each further one. Attempts and
    devices are counted apart: a device counts once, by its last attempt.
    """

    outcomes: tuple[Outcome, ...] = (Outcome.FAILED_NO_CHANGE, Outcome.TIMED_OUT)
    attempts: int = 1
    delay_s: float = 60.0
    budget: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What the operator ordered. Times are in seconds."""

    waves: tuple[Wave, ...]
    gates: tuple[Gate, ...] = COMMITTED
    health_window_s: float = 5.0
    step_timeout_s: float = 60.0
    total_timeout_s: float = 600.0
    evidence_timeout_s: float = 3600.0
    """How long after its last execution ended a wave waits for figures that its gates lack; then it is halted."""
    rate: Rate | None = None
    max_in_flight: int | None = None
    disruption: Disruption | None = None
    retry: Retry = Retry()
    window: Window | None = None
    """When devices are told and may begin to download."""
    install_window: Window | None = None
    """When they may install what they have downloaded."""


def check(plan: Plan, now_ns: int) -> None:
    """Raises PlanError naming the field."""
    for index, wave in enumerate(plan.waves):
        if (wave.count is None) == (wave.percent is None):
            raise PlanError(f"waves.{index}: give either a count or a percent")
        fact = next((name for name in sorted(wave.selector) if name.startswith("@")), None)
        if fact is not None:
            raise PlanError(f"waves.{index}.selector: {fact} belongs into the rollout's selector; waves go by labels")
    for index, gate in enumerate(plan.gates):
        try:
            rules((gate,))
        except GateError as error:
            raise PlanError(f"gates.{index}.expression: {error}") from error
    for outcome in plan.retry.outcomes:
        if outcome not in RETRYABLE:
            raise PlanError(f"retry.outcomes: {outcome} is not repeated; {', '.join(sorted(RETRYABLE))} may be")
    for name, window in (("window", plan.window), ("install_window", plan.install_window)):
        problem = why_never(window, now_ns) if window else ""
        if problem:
            raise PlanError(f"{name}: {problem}")
