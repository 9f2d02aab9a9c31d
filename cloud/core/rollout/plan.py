"""What an operator orders: waves, gates, and how fast, how many at once, when and how often a device is asked.

What a field may be is part of its type, here and nowhere else: the API, fleet files and scenarios take their bounds
from it. A plan that is beyond them, could keep a rollout waiting for ever, or contradicts itself, is refused when it is
made.
"""

import re
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from cloud.core.gates.judge import COMMITTED, Count, Gate, rules
from cloud.core.gates.language import GateError
from cloud.core.rollout.windows import Seconds, Window, why_never
from wire.messages import Outcome

RETRYABLE: Final = frozenset({Outcome.FAILED_NO_CHANGE, Outcome.TIMED_OUT, Outcome.ROLLED_BACK})
"""How an execution may end and be tried again. A rejection is the device's last word."""

Patience = Annotated[float, Meta(gt=0, le=7 * 86_400)]
"""How long a device may take; a week, since some are on the air for a few hours of every second night."""
HealthWindow = Annotated[float, Meta(ge=0, le=86_400)]
Percent = Annotated[float, Meta(gt=0, le=100)]
Many = Annotated[int, Meta(ge=1, le=1_000_000)]
Factor = Annotated[float, Meta(ge=1, le=5)]
Attempts = Annotated[int, Meta(ge=1, le=10)]
Repetitions = Annotated[int, Meta(ge=0, le=1_000_000)]
Outcomes = Annotated[tuple[Outcome, ...], Meta(min_length=1, max_length=3)]
Text = Annotated[str, Meta(max_length=63)]
Labels = Annotated[dict[Text, Text], Meta(max_length=32)]
_SAID: Final = re.compile(r"(?P<what>.*?)(?: - at (?:`key` in )?`\$\.?(?P<where>[^`]*)`)?", re.DOTALL)


class PlanError(Exception):
    """A plan that cannot be carried out; the message begins with the field."""


@dataclass(frozen=True, slots=True)
class Wave:
    """Devices reached in all once this wave is out: a number of them or a share in percent, of those left of the
    selector where it has one.

    `approval`: a person has to approve before it opens. `soak_s`: how long it is watched, after its last execution
    ended, before the next wave opens or the rollout ends.
    """

    count: Count | None = None
    percent: Percent | None = None
    selector: Labels = field(default_factory=dict)
    approval: bool = False
    soak_s: Seconds = 0.0


@dataclass(frozen=True, slots=True)
class Rate:
    """Devices that may be asked in any minute: `per_minute`, times `factor` for every `step` devices that committed,
    up to `most`. Nothing is let through in a burst: a second gets its sixtieth, rounded up."""

    per_minute: Many
    factor: Factor = 1.0
    step: Count = 1
    most: Many = 1_000_000


@dataclass(frozen=True, slots=True)
class Disruption:
    """At most so many devices with the same value of `label` are under way at a time."""

    label: Text
    max_unavailable: Count


@dataclass(frozen=True, slots=True)
class Retry:
    """Executions that ended in one of `outcomes` are repeated, up to `attempts` per device and `budget` in all.

    The device waits `delay_s` before the second attempt, and twice as long before each further one. Attempts and
    devices are counted apart: a device counts once, by its last attempt.
    """

    outcomes: Outcomes = (Outcome.FAILED_NO_CHANGE, Outcome.TIMED_OUT)
    attempts: Attempts = 1
    delay_s: Seconds = 60.0
    budget: Repetitions = 1_000_000


Waves = Annotated[tuple[Wave, ...], Meta(min_length=1, max_length=20)]
Gates = Annotated[tuple[Gate, ...], Meta(max_length=20)]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the operator ordered. Times are in seconds."""

    waves: Waves
    gates: Gates = COMMITTED
    health_window_s: HealthWindow = 5.0
    step_timeout_s: Patience = 60.0
    total_timeout_s: Patience = 600.0
    evidence_timeout_s: Seconds = 3600.0
    """How long after its last execution ended a wave waits for figures that its gates lack; then it is halted."""
    rate: Rate | None = None
    max_in_flight: Count | None = None
    disruption: Disruption | None = None
    retry: Retry = Retry()
    window: Window | None = None
    """When devices are told and may begin to download."""
    install_window: Window | None = None
    """When they may install what they have downloaded."""


def check(plan: Plan, now_ns: int) -> None:
    """Raises PlanError naming the field."""
    _check_bounds(plan)
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


def _check_bounds(plan: Plan) -> None:
    try:
        msgspec.convert(msgspec.to_builtins(plan), Plan)
    except msgspec.ValidationError as error:
        found = _SAID.fullmatch(str(error))
        assert found is not None
        where = re.sub(r"\[(\d+)\]", r".\1", found["where"] or "")
        raise PlanError(f"{where}: {found['what'][:1].lower()}{found['what'][1:]}") from error
