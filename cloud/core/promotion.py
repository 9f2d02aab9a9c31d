"""How far a version has come, and by which rule it goes further.

candidate -> released (the publisher's signature) -> production (the model's rule, on what devices have shown) ->
retired. One version of a model is in production; the one before is released again. A person may promote against the
rule, with a written reason; nobody can promote what was not released.
"""

from dataclasses import dataclass
from enum import StrEnum

from cloud.core.registry import VersionState


class Stage(StrEnum):
    """How far a version has come. The strings are part of the API."""

    CANDIDATE = "candidate"
    REFUSED = "refused"
    RELEASED = "released"
    PRODUCTION = "production"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Rule:
    """What devices must have shown. `automatic`: the hub promotes by itself as soon as all of it is met."""

    min_devices: int = 1
    """Devices that have committed the version."""
    min_commit_rate: float = 0.95
    """Least share of the executions that ended, 0 to 1."""
    finished_rollout: bool = True
    """A rollout of the version has to have succeeded."""
    min_accuracy: float | None = None
    """Least share of right predictions among those that applications judged (feedback), 0 to 1."""
    min_feedback: int = 100
    """Judged predictions that have to be there before the accuracy counts."""
    automatic: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a version in the field. Who rejected or was cancelled is in neither `ended` nor `committed`."""

    devices: int
    ended: int
    committed: int
    rollouts_succeeded: int
    rollouts_active: int
    feedback: int
    correct: int


def stage(state: VersionState, *, in_production: bool, retired: bool) -> Stage:
    """Where a version stands."""
    if retired:
        return Stage.RETIRED
    if in_production:
        return Stage.PRODUCTION
    match state:
        case VersionState.AWAITING_SIGNATURE:
            return Stage.CANDIDATE
        case VersionState.REFUSED:
            return Stage.REFUSED
        case VersionState.RELEASED:
            return Stage.RELEASED


def unmet(rule: Rule, seen: Evidence) -> tuple[str, ...]:
    """What of the rule is not met yet, in words."""
    missing = []
    if seen.rollouts_active:
        missing.append("a rollout of it is still active")
    if rule.finished_rollout and not seen.rollouts_succeeded:
        missing.append("no rollout of it has succeeded")
    if seen.devices < rule.min_devices:
        missing.append(f"{seen.devices} devices have committed it, {rule.min_devices} are needed")
    rate = seen.committed / seen.ended if seen.ended else 0.0
    if rate < rule.min_commit_rate:
        missing.append(
            f"{seen.committed} of {seen.ended} executions succeeded ({rate:.3f}), {rule.min_commit_rate:.3f} are needed"
        )
    return (*missing, *_accuracy(rule, seen))


def _accuracy(rule: Rule, seen: Evidence) -> tuple[str, ...]:
    if rule.min_accuracy is None:
        return ()
    if seen.feedback < rule.min_feedback:
        return (f"{seen.feedback} predictions were judged by applications, {rule.min_feedback} are needed",)
    share = seen.correct / seen.feedback if seen.feedback else 0.0
    if share >= rule.min_accuracy:
        return ()
    return (f"applications found {share:.3f} of its predictions right, {rule.min_accuracy:.3f} are needed",)
