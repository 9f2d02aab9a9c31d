"""Wall clocks that are wrong: of devices, or of the hub. Monotonic clocks never are."""

from simulator.durations import Duration, nanoseconds
from simulator.faults.fault import EVERYBODY, Among, Fault
from simulator.faults.scene import Effect, Scene


class ClockJump(Fault, frozen=True, kw_only=True):
    """Wall clocks go wrong by `by` for good, forwards or `back`: the hub's with `hub`, else those of devices."""

    by: Duration
    back: bool = False
    hub: bool = False
    devices: Among = EVERYBODY


def _jump(scene: Scene, fault: ClockJump) -> None:
    world = scene.fleet.world
    by_ns = -nanoseconds(fault.by) if fault.back else nanoseconds(fault.by)
    for clock in [world.clock] if fault.hub else [device.clock for device in scene.pick(fault.devices)]:
        clock.skew_ns += by_ns
        scene.harm()


EFFECTS: dict[type[Fault], Effect] = {ClockJump: _jump}
