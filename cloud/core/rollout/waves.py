"""Which device comes in which wave: a stable hash of (rollout, device), whatever the order of joining.

Waves are cumulative: after a wave with `count` 5 five devices have been reached in all. A wave with a selector takes
its devices from those that match it. Devices beyond the last wave are left alone.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence

from cloud.core.federated_gate import matches
from cloud.core.rollout.plan import Plan, Wave

PLACES = 1 << 63
"""Places lie below this: they fit a signed column of 64 bits."""


def place(rollout: str, device: str) -> int:
    """The device's place in the rollout's own random order: 63 bits, stable."""
    return int.from_bytes(hashlib.sha256(f"{rollout}\n{device}".encode()).digest()[:8], "big") >> 1


def targets(waves: Sequence[Wave], fleet: int) -> tuple[int, ...]:
    """How many devices of `fleet` are reached after each wave; never falls, never exceeds the fleet."""
    reached, result = 0, []
    for wave in waves:
        reached = min(fleet, max(reached, _wanted(wave, fleet)))
        result.append(reached)
    return tuple(result)


def partition(rollout: str, waves: Sequence[Wave], devices: Mapping[str, Mapping[str, str]]) -> dict[str, int]:
    """Device (with its labels) -> wave at the start. Devices beyond the last wave are absent."""
    left = sorted(devices, key=lambda device: (place(rollout, device), device))
    fleet, found = len(left), dict[str, int]()
    for index, wave in enumerate(waves):
        matching = [device for device in left if matches(devices[device], wave.selector)]
        wanted = _wanted(wave, len(matching)) if wave.selector else _wanted(wave, fleet) - len(found)
        chosen = matching[: max(0, wanted)]
        found |= dict.fromkeys(chosen, index)
        left = [device for device in left if device not in found]
    return found


def late_joiner(rollout: str, plan: Plan, open_wave: int, device: str, labels: Mapping[str, str]) -> int | None:
    """The wave of a device that appears later: by its place, and never one that is already past."""
    share = place(rollout, device) / PLACES
    reached = 0.0
    for index, wave in enumerate(plan.waves):
        if not matches(labels, wave.selector):
            continue
        reached = max(reached, _share(wave))
        if share < reached:
            return max(open_wave, index)
    return None


def _wanted(wave: Wave, of: int) -> int:
    return wave.count if wave.count is not None else math.ceil(of * (wave.percent or 0.0) / 100 - 1e-9)


def _share(wave: Wave) -> float:
    """A wave of so many devices is full already."""
    return 0.0 if wave.percent is None else wave.percent / 100
