"""Certificates of simulated devices: obtained by a claim, judged by the broker as it should, the same for a seed."""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from cloud.service import revocation
from simulator.core.network import Quality
from simulator.core.rng import Rng
from simulator.device import Device
from simulator.fakes.certificates import SeededAuthority, SeededKeys
from simulator.fakes.link import MemoryLink
from simulator.fleet import Fleet, Size
from simulator.hub import OPERATOR
from simulator.world import World
from wire.adapters.mqtt_link import Credentials
from wire.ports import SECOND

HOUR_NS = 3_600 * SECOND
LIFE_NS = 13 * HOUR_NS


def live(scene: Callable[[Fleet], Coroutine[Any, Any, None]], *, enrolled: bool) -> str:
    """Play a scene with two devices that log in with certificates; the digest of the run."""
    world = World(1)
    fleet = Fleet(world, certificate_life_ns=LIFE_NS)

    async def whole() -> None:
        await fleet.start(Size(2, Quality(), enrolled=enrolled))
        await world.clock.sleep(60 * SECOND)
        await scene(fleet)

    world.loop.run(whole())
    return world.trace.digest


async def revoke(fleet: Fleet, device: Device) -> None:
    """As an operator does."""
    by = (OPERATOR, fleet.world.clock.now_ns())
    await fleet.hub.change(lambda conn: revocation.revoke(conn, device.name, "a test", by, fleet.hub.topics))


def test_devices_enrol_with_a_claim_and_a_signing_request_and_the_seed_repeats_it() -> None:
    """Both are connected by a certificate of their own, renewed before it ends; keys and signatures are the seed's."""

    async def scene(fleet: Fleet) -> None:
        first = [device.certificate for device in fleet.devices]
        assert all(first)
        assert len(set(first)) == 2
        await fleet.world.clock.sleep(HOUR_NS)
        assert all(device.certificate for device in fleet.devices)
        assert {device.certificate for device in fleet.devices}.isdisjoint(first)

    assert live(scene, enrolled=False) == live(scene, enrolled=False)


def test_a_revoked_device_is_put_out_and_does_not_come_back() -> None:
    """Its certificate has long to live, and its connection was there; the other device keeps its own."""

    async def scene(fleet: Fleet) -> None:
        await revoke(fleet, fleet.devices[1])
        await fleet.world.clock.sleep(SECOND)
        assert [bool(device.certificate) for device in fleet.devices] == [True, False]
        await fleet.world.clock.sleep(HOUR_NS)
        assert [bool(device.certificate) for device in fleet.devices] == [True, False]

    live(scene, enrolled=True)


@pytest.mark.parametrize(
    ("founded", "name", "begins_ns", "what"),
    [
        ("other", "d1", 0, "of another authority"),
        ("own", "d2", 0, "for another name"),
        ("own", "d1", -LIFE_NS - SECOND, "that has ended"),
        ("own", "d1", 30 * HOUR_NS, "that has not begun"),
    ],
)
def test_the_broker_refuses_a_certificate(founded: str, name: str, begins_ns: int, what: str) -> None:
    """One by one: whose it is, who has issued it, and when. A good one is let in."""
    world = World(1)
    fleet = Fleet(world, certificate_life_ns=LIFE_NS)
    own = fleet.hub.authority
    assert own is not None
    other = SeededAuthority(Rng(2), world.clock.now_ns(), LIFE_NS)
    made = SeededKeys(Rng(3)).make("d1")

    async def asked(certificate: str) -> bool:
        link = MemoryLink(world.broker, world.clock, Credentials("d1", certificate=certificate))
        await link.start()
        await world.clock.sleep(SECOND)
        connected = link.connected
        await link.stop()
        return connected

    async def scene() -> None:
        fleet.hub.start()
        await world.clock.sleep(SECOND)
        now_ns = world.clock.now_ns()
        authority = own if founded == "own" else other
        assert await asked(own.issue("d1", made.csr, now_ns).pem)
        assert not await asked(authority.issue(name, made.csr, now_ns + begins_ns).pem), what

    world.loop.run(scene())
