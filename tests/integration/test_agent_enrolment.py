"""Enrolment: the same request however often, a refusal with its reason, silence that ends, a claim that stays."""

import asyncio
import hashlib

import msgspec
import pytest

from edge_agent.adapters.p256_keys import P256Keys
from edge_agent.core.identity import Identity, claim_digest
from edge_agent.errors import DamagedRecordError, EnrolmentError
from edge_agent.service.claims import CLAIM as CLAIM_PATH
from edge_agent.service.claims import adopt_claim
from edge_agent.service.durable import write_atomic
from edge_agent.service.enrolment import Desk, Enrolment
from edge_agent.service.identity import CANDIDATE, IDENTITY, load_identity
from simulator.core.clock import VirtualClock
from simulator.core.loop import VirtualLoop
from simulator.core.rng import Rng
from simulator.memory_disk import MemoryDisk
from tests.samples.certificates import Authority
from tests.worlds.agent_world import DEVICE, TOPICS, Air, AirLink
from tests.worlds.trust_world import ROOT
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
CERTIFIED = msgspec.structs.replace(CLAIM, credential="certificate")


class EnrolmentDesk(Air):
    """A hub that answers the `answers_at`th request: with `reply`, or with a certificate of `authority`."""

    reply = EnrolReply(ok=True, username=DEVICE)
    authority: Authority | None = None
    answers_at = 1

    def take(self, topic: str, payload: bytes) -> None:
        """A request came."""
        super().take(topic, payload)
        if len(self.published) >= self.answers_at:
            self.send(topic.replace("/up/", "/dn/"), encode(self._reply(payload)))

    def _reply(self, payload: bytes) -> EnrolReply:
        if self.authority is None:
            return self.reply
        csr = msgspec.json.decode(payload, type=EnrolRequest).csr
        return EnrolReply(ok=True, username=DEVICE, certificate=self.authority.issue(DEVICE, csr=csr)[0])


def enrol(hub: EnrolmentDesk, disk: MemoryDisk, claim: ClaimFile = CLAIM, timeout_s: float = 60.0) -> Identity:
    """Run a first enrolment in virtual time."""
    loop = VirtualLoop(Rng(1))

    async def scenario() -> Identity:
        enrolment = Enrolment(disk, P256Keys(), SystemIds(), timeout_s)
        return await enrolment.enrol_first(claim, Desk(AirLink(hub), VirtualClock(loop), TOPICS, "enrol-1"))

    return loop.run(scenario())


def test_the_secret_never_travels_and_lost_requests_are_repeated_unchanged() -> None:
    """Two requests get lost; all three are the same."""
    hub, disk = EnrolmentDesk(), MemoryDisk()
    hub.answers_at = 3
    given = enrol(hub, disk)
    requests = {payload for _, payload in hub.published}
    assert (len(hub.published), len(requests)) == (3, 1)
    request = msgspec.json.decode(requests.pop(), type=EnrolRequest)
    assert request.verifier == hashlib.sha256(given.password.encode()).hexdigest()
    assert given.password not in str(hub.published)
    assert given == Identity(username=DEVICE, claim=claim_digest(CLAIM), password=given.password, enrolled=True)
    assert asyncio.run(load_identity(disk, P256Keys(), CLAIM)) == given


def test_a_certificate_is_asked_for_with_a_key_that_never_travels() -> None:
    """The request holds no password and no key; what is kept fits together."""
    hub, disk = EnrolmentDesk(), MemoryDisk()
    hub.authority = Authority()
    given = enrol(hub, disk, CERTIFIED)
    request = msgspec.json.decode(hub.published[0][1], type=EnrolRequest)
    assert (request.verifier, request.csr) == (None, given.csr)
    assert "PRIVATE" not in str(hub.published)
    assert P256Keys().fit(given.certificate, given.key)
    assert given.password == ""


def test_a_certificate_for_another_key_is_not_taken() -> None:
    """And the device says so instead of keeping what it cannot use."""
    hub, disk = EnrolmentDesk(), MemoryDisk()
    hub.reply = EnrolReply(ok=True, username=DEVICE, certificate=Authority().issue(DEVICE)[0])
    with pytest.raises(EnrolmentError, match="not for this device's key"):
        enrol(hub, disk, CERTIFIED)
    assert disk.peek(IDENTITY) is None


def test_a_refusal_carries_the_hubs_reason() -> None:
    """And what to do."""
    hub = EnrolmentDesk()
    hub.reply = EnrolReply(ok=False, reason="the token has expired")
    with pytest.raises(EnrolmentError, match="the token has expired; ask for a new claim file"):
        enrol(hub, MemoryDisk())


def test_silence_ends_with_a_reason() -> None:
    """After the time allowed."""
    hub = EnrolmentDesk()
    hub.answers_at = 10_000
    with pytest.raises(EnrolmentError, match="did not answer within 20 s"):
        enrol(hub, MemoryDisk(), timeout_s=20.0)


@pytest.mark.parametrize("claim", [CLAIM, CERTIFIED], ids=["password", "certificate"])
def test_the_secret_is_durable_before_it_is_heard_of(claim: ClaimFile) -> None:
    """Power fails while the hub is silent: the next start asks the very same question."""
    hub, disk = EnrolmentDesk(), MemoryDisk()
    hub.answers_at = 10_000
    with pytest.raises(EnrolmentError):
        enrol(hub, disk, claim, 20.0)
    disk.crash(Rng(1))
    kept = disk.peek(CANDIDATE)
    assert kept is not None
    hub.answers_at = 1
    hub.authority = Authority() if claim.credential == "certificate" else None
    given = enrol(hub, disk, claim)
    assert len({payload for _, payload in hub.published}) == 1
    secret = given.password or given.key
    assert secret.splitlines()[0].encode() in kept


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
        await write_atomic(disk, CLAIM_PATH, b"rot")
        with pytest.raises(DamagedRecordError, match="start once more with --claim"):
            await adopt_claim(disk, None)
        assert await adopt_claim(disk, moved) == moved
        assert await adopt_claim(disk, None) == moved

    asyncio.run(scenario())
