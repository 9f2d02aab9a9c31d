"""Curves of several runs as one: the median at each moment, and the band in which eight of ten runs lie."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulator.report import Curve

MOMENTS = 240
LOW, MIDDLE, HIGH = 10, 50, 90


@dataclass(frozen=True, slots=True)
class Band:
    """Values over time. With one run, `low` and `high` are the run itself."""

    at_s: tuple[float, ...]
    middle: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def top(self) -> float:
        """The largest value."""
        return max(self.high, default=0.0)


def band(curves: Sequence[Curve], until_s: float) -> Band:
    """Curves that keep each value until the next moment, and are 0 before their first one."""
    moments = np.linspace(0.0, max(until_s, 1e-9), MOMENTS)
    values = np.array([_at(curve, moments) for curve in curves]) if curves else np.zeros((1, MOMENTS))
    low, middle, high = np.percentile(values, (LOW, MIDDLE, HIGH), axis=0)
    return Band(tuple(moments), tuple(middle), tuple(low), tuple(high))


def _at(
    curve: Curve, moments: "np.ndarray[tuple[int], np.dtype[np.float64]]"
) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    place = np.searchsorted(np.array(curve.at_s), moments, side="right")
    return np.array([0.0, *curve.values])[place]
