"""One device and an office that gives identities out: a hub and a broker in one, in virtual time.

The office grants, renews and recovers by the rules of the contract; its broker accepts what it granted and did not
revoke, as long as it is valid. It outlives every start of the device.
"""

import asyncio
import datetime
import hashlib
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import load_pem_x509_certificate

from edge_agent.adapters.p256_keys import P256Keys
from edge_agent.bootstrap import AgentPolicy, assemble
from edge_agent.core.identity import Identity
from edge_agent.service.agent import Agent
from edge_agent.service.claims import adopt_claim
from edge_agent.service.courier import Uplink
from edge_agent.service.enrolment import Desk, Enrolment
from edge_agent.service.identity import load_identity
from edge_agent.service.membership import Member
from edge_agent.service.tasks import Tasks
from simulator.fakes.offload import InlineOffload
from simulator.memory_disk import MemoryDisk
from tests.samples.certificates import Authority
from tests.worlds.agent_world import DEVICE, TOPICS, Air, AirLink, Gear
from tests.worlds.trust_world import ROOT
from wire.adapters.system import SystemIds
from wire.asks import Answer, Ask, AskRenewal, Refused, Renewed
from wire.codec import decode, encode
from wire.identity import PROOF_CONTEXT, Broker, ClaimFile, EnrolReply, EnrolRequest, RecoverRequest
from wire.ports import SECOND, Clock, LinkError, LoginRefusedError

REFRESH_S = 1e9
"""The metadata here does not live for weeks, and nothing is installed."""
DAY_NS = 24 * 3600 * SECOND


def claim_file(number: int = 1, credential: str = "certificate") -> ClaimFile:
    """The `number`th claim of the device."""
    claim = ClaimFile(
        device=DEVICE,
        broker=Broker(host="localhost", port=1883),
        topic_root=TOPICS.root,
        token=f"token-{number}-" + "t" * 20,
        enrol_username="enrol",
        enrol_password="enrol",
        root=ROOT,
    )
    return msgspec.structs.replace(claim, credential=credential)


@dataclass
class Office:
    """The hub's side. `no` is its answer to renewals and recoveries; `open` tells whether the broker can be reached."""

    clock: Clock
    life_ns: int = 14 * DAY_NS
    backdate_ns: int = 3600 * SECOND
    no: str = ""
    open: bool = True
    authority: Authority = field(default_factory=Authority)
    granted: dict[str, str] = field(default_factory=dict)
    """Signing request -> certificate."""
    verifiers: set[str] = field(default_factory=set)
    used: dict[str, str] = field(default_factory=dict)
    """Token -> what it was used with."""
    revoked: set[str] = field(default_factory=set)
    """Certificates that the broker refuses."""
    renewals: int = 0
    recoveries: int = 0
    air: Air = field(default_factory=Air)

    def verdict(self, identity: Identity) -> LinkError | None:
        """What the broker says to this login."""
        if not self.open:
            return LinkError("connection refused")
        if identity.password:
            verifier = hashlib.sha256(identity.password.encode()).hexdigest()
            return None if verifier in self.verifiers else LoginRefusedError("bad user name or password")
        if identity.certificate in self.revoked:
            return LoginRefusedError("alert certificate revoked")
        known = identity.certificate in self.granted.values()
        if not known or P256Keys().lifetime(identity.certificate).over(self.clock.now_ns()):
            return LoginRefusedError("alert certificate expired")
        return None

    def grant(self, csr: str) -> str:
        """The certificate for a request; the same for the same request."""
        if csr not in self.granted:
            self.authority.now = datetime.datetime.fromtimestamp(self.clock.now_ns() // SECOND, datetime.UTC)
            begin, end = (datetime.timedelta(seconds=ns // SECOND) for ns in (-self.backdate_ns, self.life_ns))
            self.granted[csr] = self.authority.issue(DEVICE, begin, end, csr=csr)[0]
        return self.granted[csr]

    def at_desk(self, payload: bytes) -> EnrolReply:
        """A request at the enrolment listener."""
        request = decode(payload, EnrolRequest | RecoverRequest)  # type: ignore[arg-type]
        if isinstance(request, RecoverRequest):
            return self._recover(request)
        secret = request.csr or request.verifier or ""
        if self.used.setdefault(request.token, secret) != secret:
            return EnrolReply(ok=False, reason="the token was used by another device")
        if request.csr:
            return EnrolReply(ok=True, username=DEVICE, certificate=self.grant(request.csr))
        self.verifiers.add(secret)
        return EnrolReply(ok=True, username=DEVICE)

    def _recover(self, request: RecoverRequest) -> EnrolReply:
        self.recoveries += 1
        old = load_pem_x509_certificate(request.certificate.encode()).public_key()
        assert isinstance(old, ec.EllipticCurvePublicKey)
        try:
            old.verify(request.proof, PROOF_CONTEXT + request.csr.encode(), ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return EnrolReply(ok=False, reason="the proof is wrong")
        if self.no or request.certificate not in self.granted.values():
            return EnrolReply(ok=False, reason=self.no or "never issued here")
        return EnrolReply(ok=True, username=DEVICE, certificate=self.grant(request.csr))

    def on_ask(self, payload: bytes) -> bytes | None:
        """A question of the device over its working link; None: it is not for us."""
        ask = decode(payload, Ask)
        if not isinstance(ask.what, AskRenewal):
            return None
        self.renewals += 1
        what = Refused(reason=self.no) if self.no else Renewed(certificate=self.grant(ask.what.csr))
        return encode(Answer(id=ask.id, what=what))


class DeskLink(AirLink):
    """The link to the enrolment listener; never up while the broker is away."""

    def __init__(self, office: Office) -> None:
        super().__init__(Air())
        self._office = office

    async def start(self) -> None:
        """Come up."""
        if self._office.open:
            await super().start()

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Ask, and be answered."""
        reply = encode(self._office.at_desk(payload))
        self.deliver(topic.replace("/up/", "/dn/"), reply, retained=False)


class GatedLink(AirLink):
    """Link and `Access` in one: up only while the office's broker accepts the login; tries again every 20 s."""

    def __init__(self, office: Office, identity: Identity) -> None:
        super().__init__(office.air)
        self.identity = identity
        self.logins: list[Identity] = []
        self.trouble = ""
        self.refused = False
        self._office = office

    async def start(self) -> None:
        """Try to come up."""
        self._try()

    async def change(self, identity: Identity) -> None:
        """Log in anew."""
        await asyncio.sleep(0)
        error = self._office.verdict(identity)
        if error is not None:
            raise error
        self.identity = identity
        self._connected = False
        self._try()

    def send(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish; questions are answered at once."""
        if not self._connected:
            return
        self._office.air.cloud.now_ns = self._office.clock.now_ns()
        super().send(topic, payload)
        if topic == TOPICS.up(DEVICE, "ask") and (answer := self._office.on_ask(payload)) is not None:
            self.deliver(TOPICS.dn(DEVICE, "answer"), answer, retained=False)

    def cut(self) -> None:
        """The connection breaks."""
        self._connected = False
        self._try()

    def _try(self) -> None:
        if self._connected:
            return
        error = self._office.verdict(self.identity)
        self.trouble, self.refused = str(error or ""), isinstance(error, LoginRefusedError)
        if error is None:
            self.logins.append(self.identity)
            self._connected = True
            asyncio.get_running_loop().call_soon(self._up)
        else:
            self._office.clock.call_later(20 * SECOND, self._try)


@dataclass(frozen=True)
class Started:
    """A running device."""

    agent: Agent
    link: GatedLink


@asynccontextmanager
async def member(office: Office, disk: MemoryDisk, given: ClaimFile | None, crash: Callable[[BaseException], None]):  # type: ignore[no-untyped-def]
    """One life of the device: what `running_agent` does, over memory."""
    ids, keys = SystemIds(), P256Keys()

    def open_desk(claim: ClaimFile) -> Desk:
        return Desk(DeskLink(office), office.clock, TOPICS, "enrol-1")

    claim = await adopt_claim(disk, given)
    identity = await load_identity(disk, keys, claim)
    if identity is None:
        identity = await Enrolment(disk, keys, ids, 60.0).enrol_first(claim, open_desk(claim))
    link = GatedLink(office, identity)
    ports = Gear(disk, office.clock, link).ports()
    uplink = Uplink(DEVICE, TOPICS, link, office.clock, Tasks(crash))
    policy = AgentPolicy(60.0, refresh_trust_s=REFRESH_S)
    agent, _ = assemble(ports, uplink, str, InlineOffload(), policy, Member(claim, identity, keys, link, open_desk))
    await agent.start()
    try:
        yield Started(agent, link)
    finally:
        await agent.stop()
