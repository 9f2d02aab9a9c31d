"""How devices come to the fleet: an operator announces one (claim), it turns its token into an identity (enrol).

The identity is the digest of a password, or a certificate for the device's key.

The database row is written before the broker learns of the login, and the device is answered after that, so a device
that has its answer can log in. Repeating either step is harmless.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from cloud.core.access import RESERVED_NAMES
from cloud.core.identity import Claim, Denied, digest, enrol
from cloud.errors import ConflictError, InvalidError
from cloud.ports import Authority, SigningRequestError
from cloud.service import audit, certificates, director
from cloud.service.effects import NOTHING, Effects, Publish, Wake
from cloud.tables import claims, devices
from wire.codec import decode, encode
from wire.errors import MalformedError, WireError
from wire.identity import EnrolReply, EnrolRequest, RecoverRequest
from wire.topics import NAME_RULE, Topics, valid_name

CLAIM_LIFE_NS = 24 * 3600 * 1_000_000_000
MAX_REQUEST_BYTES = 24 * 1024
NO_CERTIFICATES = "devices of this fleet log in with passwords: send a verifier"
FRESH: Final[Mapping[str, Any]] = {
    "boot": 0,
    "sessions": None,
    "clone_suspected_ns": None,
    "reported_seq": 0,
    "reported_sequence": 0,
    "reported_digest": "",
    "telemetry_seq": 0,
    "telemetry_ahead": 0,
    "certificate_serial": None,
    "certificate_expires_ns": None,
    "gone_ns": None,
    "agent": "",
    "speaks": 0,
}
"""What the hub knows of hardware that it has never heard of."""
_BY_TOKEN = select(claims).where(claims.c.token_sha256 == bindparam("token"))
_USED = select(claims.c.verifier).where(claims.c.device == bindparam("name"), claims.c.used_ns.is_not(None)).limit(1)
_OTHER_CLAIMS = delete(claims).where(claims.c.device == bindparam("name"), claims.c.token_sha256 != bindparam("token"))
_USE = (
    update(claims)
    .where(claims.c.token_sha256 == bindparam("token"))
    .values(used_ns=bindparam("now_ns"), verifier=bindparam("secret"))
)
_BEGIN_ANEW = (
    update(devices)
    .where(devices.c.name == bindparam("given_name"))
    .values(verifier=bindparam("secret"), enrolled_ns=bindparam("now_ns"), revoked_ns=None, **FRESH)
)
_Request: type[EnrolRequest | RecoverRequest] = EnrolRequest | RecoverRequest  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class NewClaim:
    """What the operator says of a device. None = as it is, for a device that is known."""

    device: str
    labels: Mapping[str, str] | None
    federated: bool | None
    token: str
    replaces: bool = False
    """The name may change over to new hardware while the old one is enrolled."""


def check_name(device: str) -> None:
    """Raises InvalidError when no device can have this name."""
    if not valid_name(device):
        raise InvalidError(f"{device!r} cannot be a name: {NAME_RULE}")
    if device in RESERVED_NAMES:
        raise InvalidError(f"a device cannot be called {device!r}: that name is reserved")


def claimable(conn: Connection, names: Sequence[str], *, replaces: bool) -> dict[str, Mapping[str, str]]:
    """The labels of those of them that are known. Raises what claiming one of them would raise."""
    for name in names:
        check_name(name)
    query = select(devices.c.name, devices.c.labels, devices.c.decommissioned_ns).where(devices.c.name.in_(names))
    rows = conn.execute(query).all()
    for row in rows:
        if row.decommissioned_ns is not None and not replaces:
            raise ConflictError(
                f"device {row.name} was decommissioned: say that the claim replaces it, or choose another name"
            )
    return {row.name: row.labels for row in rows}


def claim(conn: Connection, new: NewClaim, actor: str, now_ns: int) -> None:
    """Announce a device, or make a new claim for a known one, which keeps its history.

    Of the claim files of a device only the newest is good, so one that was lost can be made worthless. Raises
    InvalidError, and ConflictError when the device was decommissioned and the claim does not replace it.
    """
    claimable(conn, [new.device], replaces=new.replaces)
    said = {"labels": None if new.labels is None else dict(new.labels), "federated": new.federated}
    before = conn.execute(select(devices.c.labels, devices.c.federated).where(devices.c.name == new.device)).first()
    values: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    values |= {"claimed_ns": now_ns, "decommissioned_ns": None}
    known = conn.execute(update(devices).where(devices.c.name == new.device).values(values)).rowcount
    if not known:
        conn.execute(insert(devices).values(name=new.device, **{"labels": {}, "federated": False} | values))
    conn.execute(delete(claims).where(claims.c.device == new.device, claims.c.used_ns.is_(None)))
    row = {"token_sha256": digest(new.token), "device": new.device, "replaces": new.replaces}
    conn.execute(insert(claims).values(row | {"expires_ns": now_ns + CLAIM_LIFE_NS}))
    states = {"before": None if before is None else before._mapping, "after": said}
    audit.record(conn, now_ns, actor, ("device.claim", new.device), **states, replaces=new.replaces)


@dataclass(frozen=True, slots=True)
class Door:
    """Where devices come in. `authority` issues their certificates; None = they log in with passwords."""

    topics: Topics
    authority: Authority | None = None

    def answer(self, conn: Connection, client: str, payload: bytes, now_ns: int) -> Effects:
        """Answer a request of the client `client`."""
        try:
            request = decode(payload, _Request, limit=MAX_REQUEST_BYTES)
            with conn.begin_nested():
                effects, reply = self._judge(conn, request, now_ns)
        except (WireError, SigningRequestError) as error:
            effects, reply = NOTHING, _no(str(error))
        return Effects((Publish(self.topics.enrol("dn", client), encode(reply)),)) + effects

    def _judge(
        self, conn: Connection, request: EnrolRequest | RecoverRequest, now_ns: int
    ) -> tuple[Effects, EnrolReply]:
        if isinstance(request, EnrolRequest):
            return self._enrol(conn, request, now_ns)
        if self.authority is None:
            return NOTHING, _no(NO_CERTIFICATES)
        issued = certificates.recovered(conn, self.authority, request, now_ns)
        if isinstance(issued, Denied):
            return NOTHING, _no(issued.reason)
        return NOTHING, EnrolReply(ok=True, username=issued.device, certificate=issued.pem)

    def _enrol(self, conn: Connection, request: EnrolRequest, now_ns: int) -> tuple[Effects, EnrolReply]:
        secret = self._secret(request)
        known = _find(conn, request.token)
        verdict = enrol(known, secret, _holder(conn, known, secret, now_ns), now_ns)
        if isinstance(verdict, Denied):
            return NOTHING, _no(verdict.reason)
        device = verdict.device
        effects = self._accept(conn, device, (request.token, secret), now_ns) if verdict.first else NOTHING
        if self.authority is None:
            return effects, EnrolReply(ok=True, username=device)
        issued = certificates.issue(conn, self.authority, device, request.csr, now_ns)
        return effects, EnrolReply(ok=True, username=device, certificate=issued.pem)

    def _secret(self, request: EnrolRequest) -> str:
        """The digest that stands for the device's secret: of its password, or of its public key."""
        if bool(request.csr) == (request.verifier is not None):
            raise MalformedError("give either a verifier or a signing request")
        if self.authority is None:
            if request.verifier is None:
                raise MalformedError(NO_CERTIFICATES)
            return request.verifier
        if request.verifier is not None:
            raise MalformedError("devices of this fleet log in with certificates: send a signing request")
        return self.authority.key_of(request.csr)

    def _accept(self, conn: Connection, device: str, proof: tuple[str, str], now_ns: int) -> Effects:
        """The new identity starts its own count of reports, so the high-water marks start again.

        Whatever the name's last holder logged in with counts no more from this transaction on.
        """
        token, secret = digest(proof[0]), proof[1]
        conn.execute(_OTHER_CLAIMS, {"name": device, "token": token})
        conn.execute(_USE, {"token": token, "now_ns": now_ns, "secret": secret})
        certificates.revoke_all(conn, device, now_ns)
        kept = None if self.authority else secret
        conn.execute(_BEGIN_ANEW, {"given_name": device, "secret": kept, "now_ns": now_ns})
        audit.record(conn, now_ns, f"device:{device}", ("device.enrol", device))
        told = director.of_devices(conn, [device], self.topics)
        return told + Effects(wakes=frozenset({Wake.USERS, Wake.ROLLOUTS}))


def _find(conn: Connection, token: str) -> Claim | None:
    row = conn.execute(_BY_TOKEN, {"token": digest(token)}).one_or_none()
    return None if row is None else Claim(row.device, row.expires_ns, row.verifier, row.replaces)


def _holder(conn: Connection, known: Claim | None, secret: str, now_ns: int) -> str | None:
    """The secret that the name goes with now: one that was renewed since counts as well."""
    if known is None:
        return None
    if certificates.is_for_key(conn, known.device, secret, now_ns):
        return secret
    return conn.scalar(_USED, {"name": known.device})


def _no(reason: str) -> EnrolReply:
    return EnrolReply(ok=False, reason=reason[:500])
