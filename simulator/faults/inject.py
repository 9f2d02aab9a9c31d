"""Brings faults about on a fleet: each at its moment, on devices that the seed picks."""

from collections import Counter
from functools import partial

from simulator.core.network import Quality
from simulator.durations import nanoseconds
from simulator.faults import clocks, forgery, hub_side, learning, storage
from simulator.faults.fault import Fault
from simulator.faults.kinds import (
    AnyFault,
    BadNetwork,
    BrokerKill,
    CutConnections,
    HubKill,
    Partition,
    PowerCut,
    SlowBroker,
)
from simulator.faults.scene import Effect, Scene
from simulator.fleet import Fleet
from wire.ports import SECOND


class Injector:
    """Plans faults from now on. `fired` counts by kind what really happened, `pending` what is still to come."""

    def __init__(self, fleet: Fleet) -> None:
        self.fired: Counter[str] = Counter()
        self.pending = 0
        self.fired_at: list[tuple[int, str]] = []
        """(moment in ns, kind) of everything that happened."""
        self._fleet = fleet
        self._planned = 0

    def plan(self, fault: AnyFault) -> None:
        """Have the fault happen, counted from now."""
        self._planned += 1
        rng, kind = self._fleet.world.rng.child(f"fault {self._planned}"), str(fault.__struct_config__.tag)
        for number in range(fault.times):
            delay_ns = nanoseconds(fault.at) + rng.below(nanoseconds(fault.within) + 1)
            scene = Scene(self._fleet, rng.child(str(number)), f"fault {self._planned}.{number}", kind)
            self.pending += 1
            self._fleet.later(delay_ns, partial(self._fire, fault, scene))

    def _fire(self, fault: AnyFault, scene: Scene) -> None:
        kind, now_ns = scene.kind, self._fleet.world.clock.monotonic_ns()
        self.pending -= 1
        self.fired[kind] += 1
        self.fired_at.append((now_ns, kind))
        self._fleet.world.trace.note(now_ns, "fault", kind)
        BRING_ABOUT[type(fault)](scene, fault)


def _bad_network(scene: Scene, fault: BadNetwork) -> None:
    delay_ns = nanoseconds(fault.delay)
    worse = Quality(fault.loss, fault.duplication, delay_ns, delay_ns, fault.reordering, fault.bandwidth)
    for device in scene.pick(fault.devices):
        device.network.worsen(scene.key, worse)
        scene.later(fault.lasts, partial(device.network.recover, scene.key))


def _partition(scene: Scene, fault: Partition) -> None:
    for device in scene.pick(fault.devices):
        device.isolate(scene.key)
        scene.later(fault.lasts, partial(device.network.admit, scene.key))


def _cut_connections(scene: Scene, fault: CutConnections) -> None:
    for device in scene.pick(fault.devices):
        scene.fleet.cut_connection(device)


def _power_cut(scene: Scene, fault: PowerCut) -> None:
    off_ns = None if fault.off is None else nanoseconds(fault.off)
    for device in scene.pick(fault.devices):
        if fault.operations:
            device.cuts.append((1 + scene.rng.below(fault.operations), off_ns))
            device.arm()
        else:
            device.power_cut(off_ns)


def _hub_kill(scene: Scene, fault: HubKill) -> None:
    scene.fleet.kill(scene.fleet.hub, nanoseconds(fault.down))


def _broker_kill(scene: Scene, fault: BrokerKill) -> None:
    scene.fleet.kill(scene.fleet.world.broker, nanoseconds(fault.down))


def _slow_broker(scene: Scene, fault: SlowBroker) -> None:
    broker, more_ns = scene.fleet.world.broker, SECOND // fault.messages_per_s
    broker.message_ns += more_ns

    def recover() -> None:
        broker.message_ns -= more_ns

    scene.harm()
    scene.later(fault.lasts, recover)


BRING_ABOUT: dict[type[Fault], Effect] = {
    BadNetwork: _bad_network,
    Partition: _partition,
    CutConnections: _cut_connections,
    PowerCut: _power_cut,
    HubKill: _hub_kill,
    BrokerKill: _broker_kill,
    SlowBroker: _slow_broker,
    **clocks.EFFECTS,
    **hub_side.EFFECTS,
    **storage.EFFECTS,
    **forgery.EFFECTS,
    **learning.EFFECTS,
}
