"""Is what the devices learned better? Judged by their own holdouts: the same device before and after.

The fleet's mean must improve, and a named group of devices may lose at most a margin (non-inferiority), so that a gain
for some is not paid for by others unseen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True, slots=True)
class DeviceResult:
    """Accuracy of one device on its own holdout (0..1) over `examples` windows."""

    device: str
    labels: Mapping[str, str]
    examples: int
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class NonInferiority:
    """Devices with all these labels may lose at most `margin` (absolute) on average."""

    selector: Mapping[str, str]
    margin: float


@dataclass(frozen=True, slots=True)
class GroupVerdict:
    """Mean accuracy of a group of devices, each device counting once."""

    name: str
    devices: int
    before: float
    after: float
    passed: bool
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """May the result become a version? `reason` names the group that stands against it."""

    passed: bool
    reason: str
    groups: tuple[GroupVerdict, ...]


def matches(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    """Do the labels hold every pair of the selector? An empty selector matches everything."""
    return all(labels.get(key) == value for key, value in selector.items())


def judge(results: Sequence[DeviceResult], guard: NonInferiority | None) -> Verdict:
    """Judge a run. Devices that measured nothing (no examples) say nothing."""
    measured = [result for result in results if result.examples > 0]
    if not measured:
        return Verdict(False, "no device measured the result on its holdout", ())
    groups = [_fleet(measured)]
    if guard is not None:
        groups.append(_guarded(measured, guard))
    failed = next((group for group in groups if not group.passed), None)
    return Verdict(failed is None, "" if failed is None else failed.text, tuple(groups))


def _fleet(results: Sequence[DeviceResult]) -> GroupVerdict:
    before, after = _means(results)
    text = f"fleet mean accuracy went from {before:.3f} to {after:.3f} over {len(results)} devices"
    return GroupVerdict("fleet", len(results), before, after, after > before, text)


def _guarded(results: Sequence[DeviceResult], guard: NonInferiority) -> GroupVerdict:
    name = ", ".join(f"{key}={value}" for key, value in sorted(guard.selector.items())) or "all"
    group = [result for result in results if matches(result.labels, guard.selector)]
    if not group:
        return GroupVerdict(name, 0, 0.0, 0.0, False, f"no device of the guarded group {name} measured the result")
    before, after = _means(group)
    text = f"group {name} went from {before:.3f} to {after:.3f} over {len(group)} devices (margin {guard.margin:.3f})"
    return GroupVerdict(name, len(group), before, after, after >= before - guard.margin, text)


def _means(results: Sequence[DeviceResult]) -> tuple[float, float]:
    return fmean(result.before for result in results), fmean(result.after for result in results)
