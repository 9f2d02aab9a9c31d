"""How a version reaches a fleet: wave by wave, each behind the gates of the one before. A pure function of the facts.

Waves are cumulative: after a wave with `count` 5 five devices have been reached in all. Devices beyond the last wave
are left alone. A device's place is a stable hash of (rollout, device): neither the order of joining nor a restart moves
it.
"""

import bisect
import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from cloud.core.gates import Gates, Tally, Verdict, breach, judge, passed
from wire.messages import Outcome

REPORT_GRACE_S: Final = 30.0
"""How long after its total time a device's own verdict may take to arrive before the hub calls it timed out."""


class RolloutState(StrEnum):
    """Where a rollout stands. The strings are persisted and never change."""

    RUNNING = "running"
    PAUSED = "paused"
    HALTED = "halted"
    ABORTED = "aborted"
    SUCCEEDED = "succeeded"


class Command(StrEnum):
    """What an operator may say to a rollout."""

    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"


COMMANDS: Final[dict[tuple[RolloutState, Command], RolloutState]] = {
    (RolloutState.RUNNING, Command.PAUSE): RolloutState.PAUSED,
    (RolloutState.RUNNING, Command.ABORT): RolloutState.ABORTED,
    (RolloutState.PAUSED, Command.RESUME): RolloutState.RUNNING,
    (RolloutState.PAUSED, Command.ABORT): RolloutState.ABORTED,
    (RolloutState.HALTED, Command.RESUME): RolloutState.RUNNING,
    (RolloutState.HALTED, Command.ABORT): RolloutState.ABORTED,
}
"""A missing key is a command that the state does not allow."""

ACTIVE: Final = frozenset({RolloutState.RUNNING, RolloutState.PAUSED, RolloutState.HALTED})
"""States in which a rollout holds its devices: no other one may assign them in the same slot."""


@dataclass(frozen=True, slots=True)
class Wave:
    """Devices reached in all once this wave is out: a number of them or a share in percent."""

    count: int | None = None
    percent: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What the operator ordered."""

    waves: tuple[Wave, ...]
    gates: Gates = field(default_factory=Gates)
    health_window_s: float = 5.0
    step_timeout_s: float = 60.0
    total_timeout_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Member:
    """The facts about one device in the rollout."""

    device: str
    wave: int
    assigned_ns: int | None = None
    outcome: Outcome | None = None
    acknowledged: bool = False
    golden_matched: int = 0
    golden_total: int = 0


@dataclass(frozen=True, slots=True)
class Assign:
    """Give these devices of wave `wave` their assignment."""

    wave: int
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
class Succeed:
    """Every wave has passed and nothing is outstanding."""


@dataclass(frozen=True, slots=True)
class Halt:
    """Assign nobody any more, because of `reason`."""

    reason: str


Decision = Assign | Expire | StartWave | Succeed | Halt


def place(rollout: str, device: str) -> int:
    """The device's place in the rollout's own random order: 64 bits, stable."""
    return int.from_bytes(hashlib.sha256(f"{rollout}\n{device}".encode()).digest()[:8], "big")


def targets(waves: Sequence[Wave], fleet: int) -> tuple[int, ...]:
    """How many devices of `fleet` are reached after each wave; never falls, never exceeds the fleet."""
    reached, result = 0, []
    for wave in waves:
        wanted = wave.count if wave.count is not None else math.ceil(fleet * (wave.percent or 0.0) / 100 - 1e-9)
        reached = min(fleet, max(reached, wanted))
        result.append(reached)
    return tuple(result)


def partition(rollout: str, waves: Sequence[Wave], devices: Iterable[str]) -> dict[str, int]:
    """Device -> wave at the start. Devices beyond the last wave are absent."""
    ordered = sorted(devices, key=lambda device: (place(rollout, device), device))
    bounds = targets(waves, len(ordered))
    return {device: bisect.bisect_right(bounds, rank) for rank, device in enumerate(ordered[: bounds[-1]])}


def late_joiner(rollout: str, plan: Plan, fleet: int, open_wave: int, device: str) -> int | None:
    """The wave of a device that appears later: by its place among `fleet` devices, never one that is already past."""
    bounds = targets(plan.waves, fleet)
    rank = place(rollout, device) * fleet >> 64
    return max(open_wave, bisect.bisect_right(bounds, rank)) if rank < bounds[-1] else None


def tally(members: Iterable[Member], wave: int) -> Tally:
    """Count one wave, leaving out what was cancelled and the failures that a person acknowledged."""
    counted = [m for m in members if m.wave == wave and not m.acknowledged and m.outcome is not Outcome.CANCELLED]
    committed = sum(m.outcome is Outcome.SUCCEEDED for m in counted)
    return Tally(
        planned=len(counted),
        committed=committed,
        failed=sum(m.outcome is not None for m in counted) - committed,
        golden_matched=sum(m.golden_matched for m in counted if m.outcome is not None),
        golden_total=sum(m.golden_total for m in counted if m.outcome is not None),
    )


def verdicts(plan: Plan, members: Sequence[Member], wave: int) -> tuple[Verdict, ...]:
    """The gates of `wave` as things stand."""
    return judge(tally(members, wave), plan.gates)


def evaluate(plan: Plan, open_wave: int, members: Sequence[Member], now_ns: int) -> tuple[Decision, ...]:
    """What to do with a running rollout whose waves 0..`open_wave` are open. Empty: wait.

    Errors are judged before successes, over every wave that is open. A decision that changes the facts ends the
    evaluation; the caller evaluates again with the new facts.
    """
    late = overdue(plan, members, now_ns)
    if late:
        return (Expire(late),)
    for wave in range(open_wave + 1):
        reason = breach(tally(members, wave), plan.gates)
        if reason:
            return (Halt(f"wave {wave + 1}: {reason}"),)
    waiting = tuple(m.device for m in members if m.wave <= open_wave and m.assigned_ns is None and m.outcome is None)
    if waiting:
        return (Assign(open_wave, waiting),)
    return _advance(plan, open_wave, members)


def _advance(plan: Plan, open_wave: int, members: Sequence[Member]) -> tuple[Decision, ...]:
    if not passed(verdicts(plan, members, open_wave)):
        return ()
    if open_wave + 1 < len(plan.waves):
        return (StartWave(open_wave + 1),)
    outstanding = any(m.outcome is None for m in members)
    return () if outstanding else (Succeed(),)


def overdue(plan: Plan, members: Sequence[Member], now_ns: int) -> tuple[str, ...]:
    """Devices whose execution has had its total time and the grace, and of which nothing was heard."""
    limit_ns = int((plan.total_timeout_s + REPORT_GRACE_S) * 1e9)
    return tuple(
        m.device
        for m in members
        if m.assigned_ns is not None and m.outcome is None and now_ns - m.assigned_ns >= limit_ns
    )
