"""The outbox of the real agent, the inbox of the real hub, and everything between them failing, in virtual time."""

from collections import defaultdict
from typing import Any

import pytest
from sqlalchemy import select

import simulator.device
from cloud.tables import telemetry_points
from edge_agent.bootstrap import AgentPolicy
from edge_agent.service.agent import Agent
from edge_agent.service.outbox import SPOOL_NS, Outbox
from edge_agent.service.telemetry import Spacing
from simulator.core.network import Quality
from simulator.device import Device
from simulator.faults.fault import Among
from simulator.faults.inject import Injector
from simulator.faults.kinds import BrokerKill, CutConnections, HubKill
from simulator.fleet import Fleet, Size
from simulator.world import World
from wire.codec import decode
from wire.messages import Telemetry
from wire.ports import MILLISECOND, SECOND

BAD = Quality(loss=0.15, duplication=0.15, delay_max_ns=400 * MILLISECOND)
GOOD = Quality()
BUSY_S, QUIET_S = 400, 300


class Watched:
    """What every outbox was given, and when the power failed, by device."""

    def __init__(self, patch: pytest.MonkeyPatch, world: World) -> None:
        self.put: dict[str, dict[int, int]] = defaultdict(dict)
        self.cuts: dict[str, list[int]] = defaultdict(list)
        self.owner: dict[Any, str] = {}
        self.busy = True
        real_put, real_cut, real_assemble = Outbox.put, Device.power_cut, simulator.device.assemble

        def put(outbox: Any, seq: int, payload: bytes) -> None:
            self.put[self.owner[outbox]][seq] = decode(payload, Telemetry).at_ns
            real_put(outbox, seq, payload)

        def power_cut(device: Device, off_ns: int | None = None) -> None:
            self.cuts[device.name].append(world.clock.now_ns())
            real_cut(device, off_ns)

        def assemble(ports: Any, uplink: Any, locate: Any, training: Any, policy: Any) -> Any:
            agent, api = real_assemble(ports, uplink, locate, training, AgentPolicy(2.0))
            self.owner[agent._telemetry._outbox] = uplink.device
            uplink.tasks.spawn(self._use(world, agent), "application")
            return agent, api

        patch.setattr(Outbox, "put", put)
        patch.setattr(Device, "power_cut", power_cut)
        patch.setattr(simulator.device, "assemble", assemble)

    async def _use(self, world: World, agent: Agent) -> None:
        while self.busy:
            await world.clock.sleep(2 * SECOND)
            agent._telemetry.changed()
        agent._telemetry._spacing = Spacing(QUIET_S)  # what is measured last has time to land

    def lost(self, device: str, landed: set[int]) -> list[int]:
        """When those were measured that did not land."""
        return [at for seq, at in self.put[device].items() if seq not in landed]


def play(patch: pytest.MonkeyPatch, seed: int, power_cuts: int) -> tuple[Watched, dict[str, list[int]]]:
    """Bad times, then good ones; what was measured, and the numbers that the hub has of each device."""
    world = World(seed)
    fleet, watched = Fleet(world), Watched(patch, world)

    async def whole() -> None:
        await fleet.start(Size(3, BAD))
        injector = Injector(fleet)
        injector.plan(HubKill(times=4, within=f"{BUSY_S // 2}s"))
        injector.plan(BrokerKill(times=4, within=f"{BUSY_S // 2}s"))
        injector.plan(CutConnections(times=30, within=f"{BUSY_S}s", devices=Among(count=1)))
        for number in range(power_cuts):
            device = fleet.devices[number % len(fleet.devices)]
            fleet.later((60 + 40 * number) * SECOND, device.power_cut)
        await world.clock.sleep(BUSY_S * SECOND)
        watched.busy = False
        for device in fleet.devices:
            device.network.quality = GOOD
        await world.clock.sleep(QUIET_S * SECOND)

    world.loop.run(whole())
    query = select(telemetry_points.c.device, telemetry_points.c.seq).order_by(telemetry_points.c.seq)
    found: dict[str, list[int]] = defaultdict(list)
    for row in fleet.hub.look(lambda conn: conn.execute(query).all()):
        found[row.device].append(row.seq)
    assert world.faults.lost_publishes > 20
    assert world.faults.duplicates > 10
    return watched, found


@pytest.mark.parametrize("seed", [1, 2])
def test_every_message_lands_once_through_loss_duplicates_and_kills(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages and receipts are lost and repeated, hub and broker die eight times: nothing is missing."""
    watched, found = play(monkeypatch, seed, power_cuts=0)
    assert len(found) == 3
    for device, seqs in found.items():
        assert len(seqs) > 100
        assert seqs == sorted(watched.put[device])


@pytest.mark.parametrize("seed", [4, 5])
def test_a_power_cut_costs_at_most_the_last_moments(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing was measured less than SPOOL_NS before the power failed; and no number is given twice."""
    watched, found = play(monkeypatch, seed, power_cuts=8)
    for device, seqs in found.items():
        assert set(seqs) <= set(watched.put[device])
        for at in watched.lost(device, set(seqs)):
            assert any(0 <= cut - at <= SPOOL_NS + SECOND for cut in watched.cuts[device]), (device, at)
