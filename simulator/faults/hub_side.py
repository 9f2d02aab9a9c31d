"""The hub's own connection to the broker in trouble: what devices say passes there, and what they are told."""

from functools import partial

from simulator.core.network import Quality
from simulator.durations import Duration, nanoseconds
from simulator.faults.fault import Fault, Share
from simulator.faults.scene import Effect, Scene


class BadHubNetwork(Fault, frozen=True, kw_only=True):
    """Messages between hub and broker get lost, doubled, overtaken by later ones, delayed."""

    lasts: Duration
    loss: Share = 0.0
    duplication: Share = 0.0
    reordering: Share = 0.0
    delay: Duration = "0s"


class HubCutOff(Fault, frozen=True, kw_only=True):
    """The hub's connection to the broker is reset."""


def _worsen(scene: Scene, fault: BadHubNetwork) -> None:
    network, delay_ns = scene.fleet.hub.network, nanoseconds(fault.delay)
    network.worsen(scene.key, Quality(fault.loss, fault.duplication, 0, delay_ns, fault.reordering))
    scene.later(fault.lasts, partial(network.recover, scene.key))


def _cut_off(scene: Scene, fault: HubCutOff) -> None:
    link = scene.fleet.hub.link
    if link is not None and link.connected:
        scene.harm()
        link.cut()


EFFECTS: dict[type[Fault], Effect] = {BadHubNetwork: _worsen, HubCutOff: _cut_off}
