"""Synthetic fleets: what every device would report, and when, drawn from a seed.

*Commits* are drawn device by device: 97 % of a good version, 92 % of one that lost 5 points.

*Accuracy*. How much devices differ is taken from the smartwatch data: 20 devices (ten people, two arms), five folds by
person, so that everybody is judged by networks that never saw them, and two networks a fold that differ in their seed
alone, which is what two equally good versions are: mean 0.81, standard deviation between devices 0.113 (0.50 to 0.98),
of the difference between the two networks on the same device 0.069. A device's accuracy under the old version is normal
with the first spread; under the new one it differs by a normal with the second. What it counts is binomial in its
number of labelled windows (60 to 240; the watch devices have 180 on average).

*Latency*. Devices differ by a factor (log-normal, sigma 0.8: processors of several generations); a new build differs on
a device by a few percent (sigma 0.05); what the hub sees is the middle of a histogram bucket of 9 %.

*Time*: an execution ends after a log-normal time (median 3 minutes, sigma 0.6), figures come with it.
"""

from dataclasses import dataclass

import numpy as np

from wire.histogram import bucket, quantile

GOOD_RATE, LOST_RATE = 0.97, 0.05
SLOWER = 1.2
LESS_ACCURATE = 0.03
MEAN_ACCURACY, BETWEEN_DEVICES, BETWEEN_VERSIONS = 0.81, 0.113, 0.069
SPREAD_OF_SPEEDS, SPREAD_OF_BUILDS = 0.8, 0.05
MEDIAN_MINUTES, SPREAD_OF_MINUTES = 3.0, 0.6


@dataclass(frozen=True)
class Truth:
    """What is wrong with the new version: nothing, or one of the three."""

    name: str
    number: int
    commit: bool = False
    latency: bool = False
    accuracy: bool = False


GOOD = Truth("good", 0)
REGRESSIONS = (
    Truth("commit", 1, commit=True),
    Truth("latency", 2, latency=True),
    Truth("accuracy", 3, accuracy=True),
)


@dataclass(frozen=True)
class Fleet:
    """Row i is the i-th device in the rollout's order. Figures of devices that do not commit are never seen."""

    committed: np.ndarray
    latency_ms: np.ndarray
    latency_before_ms: np.ndarray
    accuracy: np.ndarray
    accuracy_before: np.ndarray
    minutes: np.ndarray
    """From being assigned to having reported everything."""


def draw(seed: int, truth: Truth, devices: int) -> Fleet:
    """One fleet under one version."""
    rng = np.random.default_rng((seed, truth.number))
    base = rng.normal(MEAN_ACCURACY, BETWEEN_DEVICES, devices)
    changed = base + rng.normal(0, BETWEEN_VERSIONS, devices) - LESS_ACCURATE * truth.accuracy
    windows = rng.integers(60, 241, devices)
    speed = np.exp(rng.normal(np.log(5.0), SPREAD_OF_SPEEDS, devices))
    build = np.exp(rng.normal(0, SPREAD_OF_BUILDS, devices)) * (SLOWER if truth.latency else 1.0)
    return Fleet(
        committed=rng.random(devices) < GOOD_RATE - LOST_RATE * truth.commit,
        latency_ms=_seen(speed * build),
        latency_before_ms=_seen(speed),
        accuracy=_counted(rng, changed, windows),
        accuracy_before=_counted(rng, base, windows),
        minutes=np.exp(rng.normal(np.log(MEDIAN_MINUTES), SPREAD_OF_MINUTES, devices)),
    )


def _counted(rng: np.random.Generator, accuracy: np.ndarray, windows: np.ndarray) -> np.ndarray:
    counted: np.ndarray = rng.binomial(windows, np.clip(accuracy, 0.0, 1.0)) / windows
    return counted


def _seen(milliseconds: np.ndarray) -> np.ndarray:
    """By the hub's histogram of microseconds."""
    numbers, which = np.unique([bucket(1000 * one) for one in milliseconds], return_inverse=True)
    middles: np.ndarray = np.array([quantile({int(number): 1}, 0.5) / 1000 for number in numbers])
    return middles[which]
