"""What goes wrong with learning: updates that are poisoned, users who are mistaken, a world that changes."""

from functools import partial
from typing import Annotated

import msgspec

from simulator.device import Device
from simulator.durations import Duration
from simulator.fakes.learner import Poison, Tampering
from simulator.faults.fault import EVERYBODY, Among, Fault, Share
from simulator.faults.scene import Effect, Scene


class PoisonedUpdates(Fault, frozen=True, kw_only=True):
    """These devices were tampered with: they send something else than what they have learnt. `factor`: how much longer
    an update is that is `scaled` or `sign_flipped`. A `stale` one is that of its first round, again and again."""

    poison: Poison
    factor: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    devices: Among = EVERYBODY
    lasts: Duration | None = None


class LabelNoise(Fault, frozen=True, kw_only=True):
    """From now on users of these devices name another class than the right one, in this share of the cases."""

    share: Share
    devices: Among = EVERYBODY
    lasts: Duration | None = None


class Drift(Fault, frozen=True, kw_only=True):
    """From now on what these devices sense is different: each class has moved so far towards where the next one was."""

    by: Share
    devices: Among = EVERYBODY


class AggregatorKill(Fault, frozen=True, kw_only=True):
    """The process that conducts a federated run is killed, if there is one: the hub launches it again."""


def _kill(scene: Scene, fault: AggregatorKill) -> None:
    for _ in range(scene.fleet.hub.learning.kill_jobs()):
        scene.harm()


def _poison(scene: Scene, fault: PoisonedUpdates) -> None:
    for device in scene.pick(fault.devices):
        device.tampering = Tampering(fault.poison, fault.factor, scene.harm)
        if fault.lasts is not None:
            scene.later(fault.lasts, partial(_cleanse, device, device.tampering))


def _cleanse(device: Device, tampering: Tampering) -> None:
    if device.tampering is tampering:
        device.tampering = None


def _mislead(scene: Scene, fault: LabelNoise) -> None:
    for device in scene.pick(fault.devices):
        if device.surroundings is not None:
            scene.harm()
            device.surroundings.mislabelled = fault.share
            if fault.lasts is not None:
                scene.later(fault.lasts, partial(setattr, device.surroundings, "mislabelled", 0.0))


def _drift(scene: Scene, fault: Drift) -> None:
    for device in scene.pick(fault.devices):
        if device.surroundings is not None:
            scene.harm()
            device.surroundings.drift = fault.by


EFFECTS: dict[type[Fault], Effect] = {
    PoisonedUpdates: _poison,
    LabelNoise: _mislead,
    Drift: _drift,
    AggregatorKill: _kill,
}
