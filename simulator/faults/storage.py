"""Disks in trouble: full, slow, or failing from the n-th operation on."""

from functools import partial

from simulator.device import Device
from simulator.durations import Duration, nanoseconds
from simulator.faults.fault import EVERYBODY, Among, Count, Fault
from simulator.faults.scene import Effect, Scene


class FullDisk(Fault, frozen=True, kw_only=True):
    """Nothing more can be written: ENOSPC."""

    lasts: Duration
    devices: Among = EVERYBODY


class SlowDisk(Fault, frozen=True, kw_only=True):
    """Every operation on the disk takes `delay` longer."""

    lasts: Duration
    devices: Among = EVERYBODY
    delay: Duration = "200ms"


class FailingDisk(Fault, frozen=True, kw_only=True):
    """After `operations` more, so many operations as `errors` says end with EIO; reads among them with `reads`."""

    lasts: Duration
    devices: Among = EVERYBODY
    operations: Count = 1
    errors: Count = 1
    reads: bool = False


def _fill(scene: Scene, fault: FullDisk) -> None:
    for device in scene.pick(fault.devices):
        device.disk.full, device.disk.on_refused = True, scene.harm
        scene.later(fault.lasts, partial(_empty, device))


def _slow_down(scene: Scene, fault: SlowDisk) -> None:
    async def wait() -> None:
        scene.harm()
        await scene.fleet.world.clock.sleep(nanoseconds(fault.delay))

    for device in scene.pick(fault.devices):
        device.disk.delay = wait
        scene.later(fault.lasts, partial(setattr, device.disk, "delay", None))


def _break(scene: Scene, fault: FailingDisk) -> None:
    for device in scene.pick(fault.devices):
        device.disk.refuse(fault.operations, fault.errors, reads=fault.reads)
        device.disk.on_refused = scene.harm
        scene.later(fault.lasts, device.disk.repair)


def _empty(device: Device) -> None:
    device.disk.full = False


EFFECTS: dict[type[Fault], Effect] = {FullDisk: _fill, SlowDisk: _slow_down, FailingDisk: _break}
