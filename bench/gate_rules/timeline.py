"""When which device is asked and when it has reported, if nobody halts the rollout: the same for every rule."""

import itertools
from dataclasses import dataclass

import numpy as np

from bench.gate_rules.fleets import Fleet
from cloud.core.rollout.plan import Wave
from cloud.core.rollout.waves import targets

WAVES = (Wave(percent=1), Wave(percent=5), Wave(percent=25), Wave(percent=100))
PER_MINUTE = 60


@dataclass(frozen=True)
class Timeline:
    """Minutes; row i is the i-th device. A wave begins when everybody of the one before has reported."""

    wave: np.ndarray
    asked: np.ndarray
    ended: np.ndarray
    sizes: tuple[int, ...]

    def minutes(self) -> range:
        """Every moment at which the rules look."""
        return range(1, int(np.ceil(self.ended.max())) + 1)

    def exposed(self, minute: int) -> int:
        """Devices that had been asked by then."""
        return int((self.asked <= minute).sum())


def timeline(fleet: Fleet) -> Timeline:
    """Wave by wave at a constant rate."""
    devices = len(fleet.minutes)
    bounds = (0, *targets(WAVES, devices))
    wave, asked = np.zeros(devices, int), np.zeros(devices)
    begins = 0.0
    for index, (first, last) in enumerate(itertools.pairwise(bounds)):
        wave[first:last] = index
        asked[first:last] = begins + np.arange(last - first) // PER_MINUTE
        begins = float(np.ceil((asked + fleet.minutes)[first:last].max()))
    sizes = tuple(np.diff(bounds).tolist())
    return Timeline(wave, asked, asked + fleet.minutes, sizes)
