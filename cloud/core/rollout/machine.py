"""What to do with a rollout: plan, facts and time in, decisions out. Nothing else is asked, nothing is remembered.

Errors are judged before successes, over every wave that is open. A decision that changes the facts ends the evaluation;
the caller carries it out and evaluates again.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Final

from msgspec import UNSET, UnsetType

from cloud.core.gates.evidence import NONE, Sample
from cloud.core.gates.judge import Verdict, judge, refusal, rules
from cloud.core.rollout.members import Counts
from cloud.core.rollout.plan import Plan
from cloud.core.rollout.states import RolloutState
from cloud.core.rollout.waves import PLACES
from cloud.core.rollout.windows import open_share, openings
from wire.assignment import Windows

SECOND: Final = 1_000_000_000
REPORT_GRACE_S: Final = 30.0
"""How long after its total time a device's own verdict may take to arrive before the hub calls it timed out."""
CHANCES: Final = 2
"""Openings for installing that a device gets: one that it may be too late for, or away in, and the next."""
AT_ONCE: Final = 500
"""Devices that one decision assigns at most, so that no transaction keeps the others waiting."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A device of an open wave that waits, and may be told by now."""

    device: str
    place: int = 0
    group: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a decision rests on.

    `ended_ns`: when the last execution of each wave ended. `recent_minute`, `recent_second`: assignments made in the
    last 60 s and the last second, repeated ones too. `candidates`: in their order; the first few hundred are enough.
    """

    state: RolloutState
    wave: int
    waves: tuple[Counts, ...]
    ended_ns: tuple[int, ...]
    approved: int = 0
    overdue: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    unavailable: Mapping[str, int] = field(default_factory=dict)
    recent_minute: int = 0
    recent_second: int = 0


@dataclass(frozen=True, slots=True)
class Assign:
    """Give these devices their assignment."""

    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Expire:
    """These executions ran out of their total time."""

    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StartWave:
    """The gates of the wave before have passed: open this one."""

    wave: int


@dataclass(frozen=True, slots=True)
class AwaitApproval:
    """The gates have passed, and a person has to say yes before this wave opens."""

    wave: int


@dataclass(frozen=True, slots=True)
class Succeed:
    """Every wave has passed and nothing is outstanding."""


@dataclass(frozen=True, slots=True)
class Halt:
    """Assign nobody any more, because of `reason`."""

    reason: str


Decision = Assign | Expire | StartWave | AwaitApproval | Succeed | Halt


def verdicts(plan: Plan, facts: Facts, wave: int) -> tuple[Verdict, ...]:
    """The gates of `wave` as things stand."""
    found = []
    for index, rule in enumerate(rules(plan.gates)):
        control = _control(facts, index)
        tallies = [one.tally(index, control) for one in facts.waves[: facts.wave + 1]]
        found.append(judge(rule, tallies, wave, len(plan.waves)))
    return tuple(found)


def evaluate(plan: Plan, facts: Facts, now_ns: int) -> tuple[Decision, ...]:
    """What to do with a rollout that is running or waits for approval. Empty: wait."""
    if facts.overdue:
        return (Expire(facts.overdue),)
    reason = breach(plan, facts)
    if reason:
        return (Halt(reason),)
    chosen = pick(plan, facts, now_ns) if facts.state is RolloutState.RUNNING else ()
    if chosen:
        return (Assign(chosen),)
    return _advance(plan, facts, now_ns)


def breach(plan: Plan, facts: Facts) -> str:
    """Why the rollout must not go on; empty when it may."""
    for wave in range(facts.wave + 1):
        reason = refusal(verdicts(plan, facts, wave))
        if reason:
            return f"wave {wave + 1}: {reason}"
    return ""


def pick(plan: Plan, facts: Facts, now_ns: int) -> tuple[str, ...]:
    """Whom to assign now: as many as rate, concurrency, label groups and the window allow, in order."""
    room = min(AT_ONCE, _rate_room(plan, facts), _flight_room(plan, facts))
    open_to = open_share(plan.window, now_ns) * PLACES
    under_way = dict(facts.unavailable)
    chosen: list[str] = []
    for one in facts.candidates:
        if len(chosen) >= room:
            break
        if one.place >= open_to:
            continue
        if plan.disruption is not None and under_way.get(one.group, 0) >= plan.disruption.max_unavailable:
            continue
        under_way[one.group] = under_way.get(one.group, 0) + 1
        chosen.append(one.device)
    return tuple(chosen)


def full_groups(plan: Plan, unavailable: Mapping[str, int]) -> tuple[str, ...]:
    """Label groups of which nobody may be assigned now."""
    if plan.disruption is None:
        return ()
    most = plan.disruption.max_unavailable
    return tuple(sorted(group for group, number in unavailable.items() if number >= most))


def per_minute(plan: Plan, committed: int) -> int | None:
    """How many devices may be asked in any minute, after so many have committed; None = any number."""
    rate = plan.rate
    if rate is None:
        return None
    if rate.factor <= 1:
        return min(rate.most, rate.per_minute)
    steps = min(committed // rate.step, math.ceil(math.log(max(1.0, rate.most / rate.per_minute), rate.factor)))
    return min(rate.most, int(rate.per_minute * rate.factor**steps))


def overdue_ns(plan: Plan, assigned_ns: int, windows: Windows | UnsetType = UNSET) -> int:
    """When an execution counts as timed out unless its device has said how it went: its last opening for installing is
    waited for."""
    last = () if windows is UNSET else windows.install
    begins_ns = max((one.until_ns for one in last), default=assigned_ns)
    return begins_ns + int((plan.total_timeout_s + REPORT_GRACE_S) * SECOND)


def grants_windows(plan: Plan) -> bool:
    """Are devices told when they may begin?"""
    return plan.window is not None or plan.install_window is not None


def granted(plan: Plan, place: int, now_ns: int) -> Windows | UnsetType:
    """When a device that is told now may download and install. The hours of telling are those of downloading."""
    if not grants_windows(plan):
        return UNSET
    share = place / PLACES
    return Windows(
        download=openings(plan.window, share, now_ns, 1) if plan.window else (),
        install=openings(plan.install_window, share, now_ns, CHANCES) if plan.install_window else (),
    )


def _rate_room(plan: Plan, facts: Facts) -> int:
    rate = per_minute(plan, sum(wave.committed for wave in facts.waves))
    if rate is None:
        return AT_ONCE
    return max(0, min(rate - facts.recent_minute, math.ceil(rate / 60) - facts.recent_second))


def _flight_room(plan: Plan, facts: Facts) -> int:
    if plan.max_in_flight is None:
        return AT_ONCE
    return max(0, plan.max_in_flight - sum(wave.in_flight for wave in facts.waves))


def _control(facts: Facts, rule: int) -> Sample:
    """Devices that had not been reached when they were looked at."""
    return reduce(add, (wave.controls[rule] for wave in facts.waves if wave.controls), NONE)


def _advance(plan: Plan, facts: Facts, now_ns: int) -> tuple[Decision, ...]:
    here, last = facts.waves[facts.wave], facts.wave + 1 == len(plan.waves)
    outstanding = here.waiting + (sum(wave.waiting + wave.in_flight for wave in facts.waves) if last else 0)
    if outstanding:
        return ()
    found = verdicts(plan, facts, facts.wave)
    quiet_ns = now_ns - facts.ended_ns[facts.wave]
    if not all(one.passed for one in found):
        missing = next(one for one in found if not one.passed)
        if here.in_flight or quiet_ns < (plan.waves[facts.wave].soak_s + plan.evidence_timeout_s) * SECOND:
            return ()
        return (Halt(f"wave {facts.wave + 1}: gate {missing.gate}: too little was measured: {missing.text}"),)
    soak_ns = plan.waves[facts.wave].soak_s * SECOND
    if soak_ns and here.planned and (here.in_flight or quiet_ns < soak_ns):  # nothing soaks before the last has ended
        return ()
    if last:
        return (Succeed(),)
    if plan.waves[facts.wave + 1].approval and facts.approved <= facts.wave:
        return () if facts.state is RolloutState.WAITING else (AwaitApproval(facts.wave + 1),)
    return (StartWave(facts.wave + 1),)
