"""Disks in trouble: full, slow, or failing from the n-th operation on."""

from collections.abc import Callable
from functools import partial

from simulator.durations import Duration, nanoseconds
from simulator.faults.disks import Failing, FaultyDisk, Full, Slow, Trouble
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


AnyTrouble = FullDisk | SlowDisk | FailingDisk


def _fill(scene: Scene, fault: FullDisk) -> None:
    _afflict(scene, fault, lambda disk: Full(scene.harm))


def _slow_down(scene: Scene, fault: SlowDisk) -> None:
    async def wait() -> None:
        await scene.fleet.world.clock.sleep(nanoseconds(fault.delay))

    _afflict(scene, fault, lambda disk: Slow(scene.harm, wait))


def _break(scene: Scene, fault: FailingDisk) -> None:
    def failing(disk: FaultyDisk) -> Trouble:
        return Failing(scene.harm, disk.operations + fault.operations, fault.errors, fault.reads)

    _afflict(scene, fault, failing)


def _afflict(scene: Scene, fault: AnyTrouble, trouble: Callable[[FaultyDisk], Trouble]) -> None:
    for device in scene.pick(fault.devices):
        device.disk.suffer(scene.key, trouble(device.disk))
        scene.later(fault.lasts, partial(device.disk.recover, scene.key))


EFFECTS: dict[type[Fault], Effect] = {FullDisk: _fill, SlowDisk: _slow_down, FailingDisk: _break}
