"""Attacks on who a device is: with tokens, signing requests and old keys, and with what a device says of itself."""

import asyncio
import datetime
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from sqlalchemy import select, true

from bench.attack_cases.attack import Attack, Outcome
from bench.replacing import replaced
from cloud.adapters.certificates import ensure
from cloud.adapters.device_certificates import DeviceAuthority, _described, _requested
from cloud.adapters.fsspec_objects import FsspecObjects
from cloud.core import identity
from cloud.core.identity import Enrolled
from cloud.errors import InvalidError
from cloud.ports import ObjectMissingError
from cloud.service import certificates, enrolment, ingest, reports, revocation, senders, statuses
from cloud.service.certificates import Renewals
from cloud.service.enrolment import CLAIM_LIFE_NS, Door, NewClaim
from cloud.service.ingest import Received
from cloud.tables import devices, slots
from simulator.fakes.store import MemoryStore
from wire.adapters.system import ThreadOffload
from wire.asks import AskRenewal, Refused
from wire.codec import decode, encode
from wire.identity import PROOF_CONTEXT, EnrolReply, EnrolRequest, RecoverRequest
from wire.messages import Capabilities, Installed, Phase, Reported, SlotReport, Status
from wire.ports import SECOND
from wire.topics import Topics

TOPICS = Topics()
CLONED, REVOKED = "one identity on two devices", "revoked device keeps access"
JOINED, TRAVERSAL = "identity stolen while it is made", "registry path traversal"
SPOKEN = "device lies about itself"
VICTIM, THIEF = "p01", "p02"
DAY_NS = 24 * 3600 * SECOND
Key = ec.EllipticCurvePrivateKey


class Desk:
    """The hub's side of identity, on a database in memory."""

    def __init__(self, folder: str) -> None:
        ensure(Path(folder), ("127.0.0.1",), datetime.datetime.now(datetime.UTC))
        self.authority = DeviceAuthority(Path(folder), datetime.timedelta(days=14))
        self.store = MemoryStore()
        self.door = Door(TOPICS, self.authority)
        self.now_ns = int(datetime.datetime.now(datetime.UTC).timestamp()) * SECOND

    def claim(self, device: str, token: str, *, replaces: bool = False) -> None:
        """The operator announces a device."""
        new = NewClaim(device=device, labels={}, federated=False, token=token, replaces=replaces)
        self.store.now(lambda conn: enrolment.claim(conn, new, "operator", self.now_ns))

    def ask(self, request: EnrolRequest | RecoverRequest) -> EnrolReply:
        """A request on the enrolment topics, and its answer."""
        effects = self.say(TOPICS.enrol("up", "client"), encode(request))
        return decode(effects.publishes[0].payload, EnrolReply)

    def enrol(self, device: str, key: Key, *, name: str = "any") -> EnrolReply:
        """The honest way, or nearly."""
        token = f"token of {device} for {id(key)}"
        self.claim(device, token, replaces=True)
        return self.ask(EnrolRequest(token=token, csr=signing_request(key, name)))

    def say(self, topic: str, payload: bytes) -> Any:
        """A message as the broker delivers it."""
        batch = [Received(topic, payload)]
        return self.store.now(lambda conn: ingest.apply(conn, batch, self.now_ns, self.door))

    def row(self, device: str) -> Any:
        """What the hub knows."""
        return self.store.now(lambda conn: conn.execute(select(devices).where(devices.c.name == device)).one())

    def now(self) -> int:
        """The clock port's."""
        return self.now_ns


def at_desk(script: Callable[[Desk], Outcome]) -> Callable[[], Outcome]:
    """A try at a hub of its own."""

    def attempt() -> Outcome:
        with tempfile.TemporaryDirectory(prefix="fleetloop-attack-") as folder:
            desk = Desk(folder)
            try:
                return script(desk)
            finally:
                desk.store.close()

    return attempt


def new_key() -> Key:
    """As a device makes it."""
    return ec.generate_private_key(ec.SECP256R1())


def signing_request(key: Key, name: str = "any") -> str:
    """PKCS #10, PEM."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return made.public_bytes(Encoding.PEM).decode()


def recovery(proof_by: Key, certificate: str, new: Key) -> RecoverRequest:
    """The request of who claims to hold an old key."""
    request = signing_request(new)
    proof = proof_by.sign(PROOF_CONTEXT + request.encode(), ec.ECDSA(hashes.SHA256()))
    return RecoverRequest(certificate=certificate, csr=request, proof=proof)


# Joining.


def _used_token(desk: Desk) -> Outcome:
    """The thief has seen the claim file, after the device has used it."""
    desk.claim(VICTIM, "t" * 40)
    desk.ask(EnrolRequest(token="t" * 40, csr=signing_request(new_key())))
    reply = desk.ask(EnrolRequest(token="t" * 40, csr=signing_request(new_key())))
    return Outcome(reply.ok, reply.reason)


def _expired_token(desk: Desk) -> Outcome:
    desk.claim(VICTIM, "t" * 40)
    desk.now_ns += CLAIM_LIFE_NS
    reply = desk.ask(EnrolRequest(token="t" * 40, csr=signing_request(new_key())))
    return Outcome(reply.ok, reply.reason)


def _name_in_use(desk: Desk) -> Outcome:
    """A claim for a name that is in use, and that was not made to replace its device."""
    desk.enrol(VICTIM, new_key())
    desk.claim(VICTIM, "t" * 40)
    reply = desk.ask(EnrolRequest(token="t" * 40, csr=signing_request(new_key())))
    return Outcome(reply.ok, reply.reason)


def _other_name(desk: Desk) -> Outcome:
    """The signing request of an honest claim names another device."""
    desk.enrol(VICTIM, new_key())
    reply = desk.enrol(THIEF, new_key(), name=VICTIM)
    certificate = x509.load_pem_x509_certificate(reply.certificate.encode())
    name = str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    return Outcome(name == VICTIM, f"the certificate names {name}")


def _anybody_joins() -> AbstractContextManager[None]:
    return replaced(enrolment, enrol=lambda claim, secret, holder, now_ns: Enrolled(claim.device, first=True))


def _names_of_requests() -> AbstractContextManager[None]:
    def issue(self: DeviceAuthority, device: str, csr: str, now_ns: int) -> Any:
        asked = x509.load_pem_x509_csr(csr.encode()).subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        at = datetime.datetime.fromtimestamp(now_ns // SECOND, datetime.UTC)
        return _described(self._sign(str(asked), _requested(csr), at, self._life))

    return replaced(DeviceAuthority, issue=issue)


# Staying.


def _recovery_by_a_stranger(desk: Desk) -> Outcome:
    """Certificates are no secrets: the thief shows the victim's, and proves the possession of a key of its own."""
    reply = desk.enrol(VICTIM, new_key())
    desk.now_ns += 20 * DAY_NS
    thief = new_key()
    answer = desk.ask(recovery(thief, reply.certificate, thief))
    return Outcome(answer.ok, answer.reason)


def _recovery_after_replacement(desk: Desk) -> Outcome:
    """Hardware that was replaced asks to come back by the proof of its old key."""
    old = new_key()
    reply = desk.enrol(VICTIM, old)
    desk.enrol(VICTIM, new_key())
    desk.now_ns += 20 * DAY_NS
    answer = desk.ask(recovery(old, reply.certificate, new_key()))
    return Outcome(answer.ok, answer.reason)


def _renewal_after_revocation(desk: Desk) -> Outcome:
    desk.enrol(VICTIM, new_key())
    _revoke(desk)
    renewals = Renewals(_Awaited(desk), _Clock(desk), desk.authority)  # type: ignore[arg-type]
    answer = asyncio.run(renewals.answer(VICTIM, AskRenewal(csr=signing_request(new_key()))))
    return Outcome(not isinstance(answer, Refused), answer.reason if isinstance(answer, Refused) else "")


def _report_after_revocation(desk: Desk) -> Outcome:
    """The broker still lets it through: the hub must not listen."""
    desk.enrol(VICTIM, new_key())
    _revoke(desk)
    heard = desk.say(TOPICS.up(VICTIM, "reported"), encode(_report(1)))
    return Outcome(bool(heard.publishes), "not heard" if not heard.publishes else "receipted")


def _second_device(desk: Desk) -> Outcome:
    """The disk of a device was copied, and both are switched on."""
    desk.enrol(VICTIM, new_key())
    for session in ("first", "second", "first", "second"):
        desk.say(TOPICS.up(VICTIM, "status"), encode(Status(online=True, boot=3, session=session)))
    noticed = desk.row(VICTIM).clone_suspected_ns is not None
    return Outcome(not noticed, "the hub suspects a clone" if noticed else "")


def _revoke(desk: Desk) -> None:
    by = ("operator", desk.now_ns)
    desk.store.now(lambda conn: revocation.revoke(conn, VICTIM, "stolen", by, TOPICS))


class _Awaited:
    """The desk's database behind the store port, for services that await it."""

    def __init__(self, desk: Desk) -> None:
        self.read = self.write = desk.store.write


class _Clock:
    def __init__(self, desk: Desk) -> None:
        self.now_ns = desk.now


def _any_proof() -> AbstractContextManager[None]:
    def proven(self: DeviceAuthority, request: RecoverRequest) -> Any:
        return _described(x509.load_pem_x509_certificate(request.certificate.encode()))

    return replaced(DeviceAuthority, proven=proven)


# What devices say, and what operators name.


def _absurd_version(desk: Desk) -> Outcome:
    """A number that would overflow a column, or a sum over the fleet."""
    desk.enrol(VICTIM, new_key())
    desk.say(TOPICS.up(VICTIM, "reported"), encode(_report(2**40)))
    kept = desk.store.now(lambda conn: conn.scalar(select(slots.c.version)))
    return Outcome(kept == 2**40, desk.row(VICTIM).last_refusal or "")


def _report(version: int) -> Reported:
    installed = Installed(model="watch", version=version, variant="int8", sha256="ab" * 32)
    return Reported(
        seq=1,
        sequence=1,
        agent="thief",
        capabilities=Capabilities(
            engines={}, max_opset=1, machine="m", python="3", ram_bytes=1, disk_free_bytes=1
        ),
        slots=(SlotReport(slot="main", phase=Phase.COMMITTED, current=installed),),
    )  # fmt: skip


def _name_with_levels(desk: Desk) -> Outcome:
    """Names stand in topics and paths: these would reach beyond their own."""
    reasons = []
    for name in ("../hub", "p01/#", "+", "%2e%2e", "a\x00b", "\u202ep01", "p01/../../etc"):
        try:
            desk.claim(name, f"token of {name!r} {'x' * 30}")
        except InvalidError as error:
            reasons.append(str(error))
        else:
            return Outcome(True, f"{name!r} is a device now")
    return Outcome(False, "; ".join(reasons))


def _object_by_path(desk: Desk) -> Outcome:
    """Asking the store for a file that is no object."""
    with tempfile.TemporaryDirectory(prefix="fleetloop-attack-") as folder:
        Path(folder, "objects").mkdir()
        Path(folder, "director.key").write_text("secret")
        offload = ThreadOffload()
        objects = FsspecObjects(f"{folder}/objects", offload)
        try:
            data = asyncio.run(objects.get(f"{folder}/director.key"))
        except ObjectMissingError as error:
            return Outcome(False, str(error))
        finally:
            offload.close()
    return Outcome(data == b"secret")


def _any_file() -> AbstractContextManager[None]:
    return replaced(FsspecObjects, _get=lambda self, name: Path(name).read_bytes())


ATTACKS = (
    Attack("claim token used again", JOINED, "a token works once", "already used by another device",
           at_desk(_used_token), _anybody_joins),
    Attack("claim token found later", JOINED, "tokens expire", "has expired", at_desk(_expired_token), _anybody_joins),
    Attack("claim for a name in use", JOINED, "only a claim that says so replaces a device", "is enrolled already",
           at_desk(_name_in_use), _anybody_joins),
    Attack("signing request with another device's name", JOINED, "the hub gives the name",
           f"the certificate names {THIEF}", at_desk(_other_name), _names_of_requests),
    Attack("recovery by whoever has seen the certificate", REVOKED, "proof by the old key", "the proof is not by",
           at_desk(_recovery_by_a_stranger), _any_proof),
    Attack("recovery of replaced hardware", REVOKED, "revoked certificates recover nothing", "was revoked",
           at_desk(_recovery_after_replacement),
           lambda: replaced(identity, recover=lambda expires_ns, revoked, now_ns: None)),
    Attack("renewal after revocation", REVOKED, "only enrolled devices renew", "not enrolled",
           at_desk(_renewal_after_revocation), lambda: replaced(certificates, ENROLLED=true())),
    Attack("report after revocation, through a broker that did not notice", REVOKED,
           "the hub hears enrolled devices only", "not heard", at_desk(_report_after_revocation),
           lambda: replaced(senders, HEARD=senders.NAMED)),
    Attack("copied disk", CLONED, "clone alarm", "the hub suspects a clone", at_desk(_second_device),
           lambda: replaced(statuses, are_clones=lambda turns: False)),
    Attack("absurd version in a report", SPOKEN, "figures are plausible", "lies outside", at_desk(_absurd_version),
           lambda: replaced(reports, check_reported=lambda reported: None)),
    Attack("device name that is a path or a filter", TRAVERSAL, "grammar of names", "cannot be a name",
           at_desk(_name_with_levels), lambda: replaced(enrolment, valid_name=lambda name: True)),
    Attack("object asked for by path", TRAVERSAL, "an object is called by its digest",
           "objects are named by their SHA-256", at_desk(_object_by_path), _any_file),
)  # fmt: skip
