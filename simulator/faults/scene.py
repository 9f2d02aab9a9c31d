"""Where a fault strikes: the fleet, the devices that the seed picks, and the count of what really happened."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simulator.core.rng import Rng
from simulator.device import Device
from simulator.durations import nanoseconds
from simulator.faults.fault import Among
from simulator.fleet import Fleet


@dataclass(frozen=True, slots=True)
class Scene:
    """Where one fault strikes. `key` tells its effect from those of others that last at the same time."""

    fleet: Fleet
    rng: Rng
    key: str
    kind: str = ""

    def pick(self, among: Among) -> list[Device]:
        """The devices it hits."""
        return among.pick(self.fleet.devices, self.rng)

    def later(self, duration: str, call: Callable[[], None]) -> None:
        """Call when the fault is over."""
        self.fleet.later(nanoseconds(duration), call)

    def harm(self) -> None:
        """It really did something: count that."""
        self.fleet.world.fired[self.kind] += 1


Effect = Callable[[Scene, Any], None]
"""(scene, fault of the kind that the table names)"""
