"""Enrolment: the same request however often, a refusal with its reason, silence that ends."""

import asyncio
import hashlib

import msgspec
import pytest

from edge_agent.errors import EnrolmentError
from edge_agent.service.claims import adopt_claim
from edge_agent.service.enrolment import Enrolment, Identity, load_identity, prepare_identity
from simulator.core.clock import VirtualClock
from simulator.core.loop import VirtualLoop
from simulator.core.rng import Rng
from simulator.memory_disk import MemoryDisk
from tests.agent_world import DEVICE, TOPICS, Air, AirLink
from tests.trust_world import ROOT
from wire.adapters.system import SystemIds
from wire.codec import encode
from wire.identity import Broker, ClaimFile, EnrolReply, EnrolRequest

CLAIM = ClaimFile(
    device=DEVICE,
    broker=Broker(host="localhost", port=1883),
    topic_root=TOPICS.root,
    token="t" * 32,
    enrol_username="enrol",
    enrol_password="secret",
    root=ROOT,
)


class Desk(Air):
    """A hub that answers the `answers_at`th request."""

    reply = EnrolReply(ok=True, username=DEVICE)
    answers_at = 1

    def take(self, topic: str, payload: bytes) -> None:
        """A request came."""
        super().take(topic, payload)
        if len(self.published) >= self.answers_at:
            self.send(topic.replace("/up/", "/dn/"), encode(self.reply))


def enrol(desk: Desk, timeout_s: float = 60.0) -> tuple[Identity, Identity]:
    """Run an enrolment in virtual time: (identity prepared, identity given)."""
    loop = VirtualLoop(Rng(1))

    async def scenario() -> tuple[Identity, Identity]:
        prepared = await prepare_identity(MemoryDisk(), SystemIds(), CLAIM)
        enrolment = Enrolment(AirLink(desk), VirtualClock(loop), TOPICS, "enrol-1")
        return prepared, await enrolment.run(CLAIM, prepared, timeout_s)

    return loop.run(scenario())


def test_the_secret_never_travels_and_lost_requests_are_repeated_unchanged() -> None:
    """Two requests get lost; all three are the same."""
    desk = Desk()
    desk.answers_at = 3
    prepared, given = enrol(desk)
    requests = {payload for _, payload in desk.published}
    assert (len(desk.published), len(requests)) == (3, 1)
    request = msgspec.json.decode(requests.pop(), type=EnrolRequest)
    assert request.verifier == hashlib.sha256(prepared.password.encode()).hexdigest()
    assert prepared.password not in str(desk.published)
    assert given == Identity(username=DEVICE, password=prepared.password, enrolled=True)


def test_a_refusal_carries_the_hubs_reason() -> None:
    """And what to do."""
    desk = Desk()
    desk.reply = EnrolReply(ok=False, reason="the token has expired")
    with pytest.raises(EnrolmentError, match="the token has expired; ask for a new claim file"):
        enrol(desk)


def test_silence_ends_with_a_reason() -> None:
    """After the time allowed."""
    desk = Desk()
    desk.answers_at = 10_000
    with pytest.raises(EnrolmentError, match="did not answer within 20 s"):
        enrol(desk, 20.0)


def test_the_secret_is_made_once_and_kept() -> None:
    """A restart in between asks the same question."""

    async def scenario() -> None:
        disk = MemoryDisk()
        first = await prepare_identity(disk, SystemIds(), CLAIM)
        disk.crash(Rng(1))
        assert await prepare_identity(disk, SystemIds(), CLAIM) == first
        assert await load_identity(disk) == first

    asyncio.run(scenario())


def test_a_data_directory_stays_one_devices() -> None:
    """Another device's claim is refused; a new broker address for the same device is taken."""

    async def scenario() -> None:
        disk = MemoryDisk()
        with pytest.raises(EnrolmentError, match="--claim FILE"):
            await adopt_claim(disk, None)
        await adopt_claim(disk, CLAIM)
        moved = msgspec.structs.replace(CLAIM, broker=Broker(host="elsewhere", port=8883))
        assert await adopt_claim(disk, moved) == moved
        assert await adopt_claim(disk, None) == moved
        with pytest.raises(EnrolmentError, match="belongs to device 'p01-left'"):
            await adopt_claim(disk, msgspec.structs.replace(CLAIM, device="p02-left"))
        assert await adopt_claim(disk, None) == moved

    asyncio.run(scenario())
