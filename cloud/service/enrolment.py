"""How devices come to the fleet: an operator announces one (claim), it turns its token into an identity (enrol).

The database row is written before the broker learns of the login, and the device is answered after that, so a device
that has its answer can log in. Repeating either step is harmless.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from cloud.core.identity import Claim, Denied, Enrolled, digest, enrol
from cloud.errors import InvalidError
from cloud.service import audit
from cloud.service.effects import NOTHING, Effects, Publish, Wake
from cloud.tables import claims, devices
from wire.codec import decode, encode
from wire.errors import WireError
from wire.identity import EnrolReply, EnrolRequest
from wire.topics import Topics, valid_name

CLAIM_LIFE_NS = 24 * 3600 * 1_000_000_000
RESERVED_NAMES = frozenset({"hub", "enrol", "aggregator"})
"""Logins of the hub's own programs on the broker."""


@dataclass(frozen=True, slots=True)
class NewClaim:
    """What the operator says of a device."""

    device: str
    labels: Mapping[str, str]
    federated: bool
    token: str


def claim(conn: Connection, new: NewClaim, actor: str, now_ns: int) -> None:
    """Announce a device, or renew the claim of a known one (replaced hardware keeps its history).

    Of the claim files of a device only the newest is good, so one that was lost can be made worthless.
    """
    if new.device in RESERVED_NAMES or not valid_name(new.device):
        raise InvalidError(f"a device cannot be called {new.device!r}: that name is reserved")
    values = {"labels": dict(new.labels), "federated": new.federated, "claimed_ns": now_ns}
    known = conn.execute(update(devices).where(devices.c.name == new.device).values(values)).rowcount
    if not known:
        conn.execute(insert(devices).values(name=new.device, **values))
    conn.execute(delete(claims).where(claims.c.device == new.device, claims.c.used_ns.is_(None)))
    token = digest(new.token)
    conn.execute(insert(claims).values(token_sha256=token, device=new.device, expires_ns=now_ns + CLAIM_LIFE_NS))
    audit.record(conn, now_ns, actor, ("device.claim", new.device), labels=dict(new.labels))


def handle(conn: Connection, client: str, payload: bytes, now_ns: int, topics: Topics) -> Effects:
    """Answer an enrolment request of the client `client`."""
    try:
        request = decode(payload, EnrolRequest, limit=4096)
    except WireError as error:
        return _answer(topics, client, EnrolReply(ok=False, reason=str(error)[:500]))
    if request.verifier is None:
        return _answer(topics, client, EnrolReply(ok=False, reason="this broker wants a verifier"))
    verdict = enrol(_find(conn, request.token), request.verifier, now_ns)
    if isinstance(verdict, Denied):
        return _answer(topics, client, EnrolReply(ok=False, reason=verdict.reason))
    if verdict.first:
        _accept(conn, verdict, request, now_ns)
    reply = _answer(topics, client, EnrolReply(ok=True, username=verdict.device))
    return reply + (Effects(wakes=frozenset({Wake.USERS, Wake.ROLLOUTS})) if verdict.first else NOTHING)


def _find(conn: Connection, token: str) -> Claim | None:
    row = conn.execute(select(claims).where(claims.c.token_sha256 == digest(token))).one_or_none()
    return None if row is None else Claim(row.device, row.expires_ns, row.verifier)


def _accept(conn: Connection, verdict: Enrolled, request: EnrolRequest, now_ns: int) -> None:
    """The new identity starts its own count of reports, so the high-water marks start again."""
    used = update(claims).where(claims.c.token_sha256 == digest(request.token))
    conn.execute(used.values(used_ns=now_ns, verifier=request.verifier))
    fresh = {"verifier": request.verifier, "enrolled_ns": now_ns, "boot": 0, "reported_seq": 0, "telemetry_seq": 0}
    conn.execute(update(devices).where(devices.c.name == verdict.device).values(fresh))
    audit.record(conn, now_ns, f"device:{verdict.device}", ("device.enrol", verdict.device))


def _answer(topics: Topics, client: str, reply: EnrolReply) -> Effects:
    return Effects((Publish(topics.enrol("dn", client), encode(reply)),))
