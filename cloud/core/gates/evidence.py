"""What one device adds to a gate, and how it adds up: counts and sums in whole millionths, so that adding and taking
away again leaves no rounding behind, and counters always equal a count from scratch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cloud.core.gates.language import Against, Comparison

SCALE: Final = 1_000_000
LIMIT: Final = 1_000.0
"""Observations are cut off here: one device with an absurd figure must not drown the others."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Observations: how many, their sum, the sum of their squares (in millionths)."""

    n: int = 0
    total: int = 0
    squares: int = 0

    def __add__(self, other: "Sample") -> "Sample":
        return Sample(self.n + other.n, self.total + other.total, self.squares + other.squares)

    def __sub__(self, other: "Sample") -> "Sample":
        return Sample(self.n - other.n, self.total - other.total, self.squares - other.squares)

    def __mul__(self, times: int) -> "Sample":
        return Sample(self.n * times, self.total * times, self.squares * times)

    @property
    def mean(self) -> float:
        """NaN without observations."""
        return self.total / (self.n * SCALE) if self.n else math.nan

    @property
    def variance(self) -> float:
        """Of one observation; 0 below two."""
        if self.n < 2:
            return 0.0
        return max(0.0, (self.squares - self.total**2 / self.n) / ((self.n - 1) * SCALE * SCALE))


NONE: Final = Sample()


def is_proportion(comparison: Comparison) -> bool:
    """Is a device either good or bad? So with events, and where nothing less than 100 % will do."""
    return comparison.fact.event or (
        comparison.against is Against.LITERAL and comparison.at_least and comparison.offset >= 1
    )


def observe(comparison: Comparison, now: Mapping[str, float], before: Mapping[str, float]) -> Sample:
    """What a device on the new version shows.

    A proportion counts good devices. Otherwise the value is badness, so that 0 is where the gate's limit lies; against
    a control group it is the device's own figure, to be held against theirs.
    """
    name = comparison.fact.name
    value = now.get(name)
    if value is None:
        return NONE
    if is_proportion(comparison):
        return _one(float(value >= 1.0))
    if comparison.against is Against.CONTROL:
        return own_figure(comparison, value)
    if comparison.against is Against.LITERAL:
        return _one(_badness(comparison, value - comparison.offset))
    reference = before.get(name)
    if reference is None:
        return NONE
    if comparison.relative:
        ratio = value / (comparison.factor * reference) if reference > 0 else 0.0
        return _one(_badness(comparison, math.log(ratio))) if ratio > 0 else NONE
    return _one(_badness(comparison, value - comparison.factor * reference - comparison.offset))


def observe_control(comparison: Comparison, figures: Mapping[str, float]) -> Sample:
    """What a device that still waited showed of what it ran."""
    value = figures.get(comparison.fact.name)
    return NONE if value is None or comparison.against is not Against.CONTROL else own_figure(comparison, value)


def own_figure(comparison: Comparison, value: float) -> Sample:
    """The figure itself, as a logarithm where ratios are compared."""
    if not comparison.relative:
        return _one(value)
    return _one(math.log(value)) if value > 0 else NONE


def against_control(comparison: Comparison, tried: Sample, control: Sample) -> tuple[float, float, int]:
    """Mean badness, deviation of one observation and effective number, of two groups that grow side by side."""
    n = min(tried.n, control.n)
    if comparison.relative:
        factor, gap = 1.0, tried.mean - control.mean - math.log(comparison.factor)
    else:
        factor, gap = comparison.factor, tried.mean - comparison.factor * control.mean - comparison.offset
    error2 = tried.variance / tried.n + factor**2 * control.variance / control.n
    return _badness(comparison, gap), math.sqrt(error2 * n), n


def _badness(comparison: Comparison, excess: float) -> float:
    return -excess if comparison.at_least else excess


def _one(value: float) -> Sample:
    scaled = round(max(-LIMIT, min(LIMIT, value)) * SCALE)
    return Sample(1, scaled, scaled * scaled)
