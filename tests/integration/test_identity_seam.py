"""Both sides of identity, ours unaltered, over a real mosquitto: a device's certificates as its clock runs ahead."""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from bench.mosquitto_fleet import RealHub, free_port, real_hub, until
from edge_agent.adapters.broker_access import BrokerAccess, credentials
from edge_agent.adapters.p256_keys import P256Keys
from edge_agent.bootstrap import AgentPolicy, assemble, open_desk
from edge_agent.core.identity import Identity
from edge_agent.service.agent import Agent
from edge_agent.service.claims import adopt_claim
from edge_agent.service.courier import Uplink
from edge_agent.service.enrolment import Enrolment
from edge_agent.service.identity import IDENTITY, load_identity
from edge_agent.service.membership import Member
from edge_agent.service.tasks import Tasks
from simulator.fakes.offload import InlineOffload
from simulator.memory_disk import MemoryDisk
from tests.worlds.agent_world import Gear
from wire.adapters.mqtt_link import MqttLink
from wire.adapters.system import SystemClock, SystemIds
from wire.identity import ClaimFile
from wire.ports import SECOND
from wire.topics import Topics

pytestmark = pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed")

DAY_NS = 24 * 3600 * SECOND
WAIT_S = 60.0


class AheadClock(SystemClock):
    """A wall clock that is days ahead."""

    def __init__(self, days: int) -> None:
        self._ahead_ns = days * DAY_NS

    def now_ns(self) -> int:
        """The future."""
        return super().now_ns() + self._ahead_ns


def in_force(disk: MemoryDisk) -> Identity:
    """The identity on the disk."""
    data = disk.peek(IDENTITY)
    assert data is not None
    return msgspec.json.decode(data, type=Identity)


@contextlib.asynccontextmanager
async def device(disk: MemoryDisk, given: ClaimFile, days: int = 0) -> AsyncIterator[tuple[Agent, MqttLink]]:
    """One start of the device, its clock so many days ahead."""
    keys, ids, crashes = P256Keys(), SystemIds(), list[BaseException]()
    claim = await adopt_claim(disk, given)
    identity = await load_identity(disk, keys, claim)
    if identity is None:
        identity = await Enrolment(disk, keys, ids, WAIT_S).enrol_first(claim, open_desk(claim))
    link, topics = MqttLink(claim.broker, credentials(identity)), Topics(claim.topic_root)
    ports = Gear(disk, AheadClock(days), link).ports()
    uplink = Uplink(identity.username, topics, link, ports.clock, Tasks(crashes.append))
    member = Member(claim, identity, keys, BrokerAccess(link), open_desk)
    agent, _ = assemble(ports, uplink, str, InlineOffload(), AgentPolicy(60.0), member)
    await agent.start()
    try:
        yield agent, link
    finally:
        await agent.stop()
    assert crashes == []


async def another_certificate(disk: MemoryDisk, claim: ClaimFile, days: int) -> tuple[Identity, Identity]:
    """A start with the clock ahead until another certificate is in force: (before, after)."""
    before = in_force(disk)
    async with device(disk, claim, days) as (_, link):
        await until("another certificate", lambda: in_force(disk) != before and link.connected, WAIT_S)
    return before, in_force(disk)


def test_renewed_recovered_revoked_and_claimed_anew_with_the_hub_that_ships(tmp_path: Path) -> None:
    """Ten days on it renews; months on it recovers; revoked it says so; a new claim brings it back."""

    async def story(hub: RealHub) -> None:
        disk = MemoryDisk()
        claim = (await hub.claims("press", 1))[0]
        name = claim.device
        async with device(disk, claim) as (_, link):
            await until("it is connected", lambda: link.connected, WAIT_S)
        for days in (10, 200):
            before, after = await another_certificate(disk, claim, days)
            assert (after.key != before.key, after.claim) == (True, before.claim)

        async with device(disk, claim) as (agent, link):
            await until("it is connected", lambda: link.connected, WAIT_S)
            await hub.api("POST", f"/devices/{name}/revoke", {"reason": "stolen"})
            await until(
                "it is refused", lambda: "a new claim file enrols it again" in agent.membership.problem(), WAIT_S
            )
            assert not link.connected

        second = msgspec.convert(await hub.api("POST", "/claims", {"device": name}), ClaimFile)
        before, after = await another_certificate(disk, second, 0)
        assert after.claim != before.claim

    async def main() -> None:
        async with real_hub(tmp_path, (free_port(), free_port())) as hub:
            await story(hub)

    logging.getLogger("cloud").setLevel(logging.ERROR)
    asyncio.run(main())
