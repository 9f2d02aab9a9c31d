"""The desired state of devices. Its sequence number is allocated, and it is signed, in the transaction that changes it.

Publishing is not part of the truth: whatever a device has not accepted yet is published again, on a timer and after
every restart of broker or hub.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, select

from cloud.many import among, entering, updating
from cloud.service.effects import Effects, Publish
from cloud.tables import AHEAD, BEHIND, desired, devices, members
from wire.assignment import Assignment, FederatedPolicy, SlotAssignment, assignment_digest, schema_of
from wire.codec import MAX_ASSIGNMENT_BYTES, MAX_CONTROL_BYTES, decode, encode
from wire.dsse import Envelope, keyid, payload_of
from wire.messages import Outcome
from wire.topics import Topics

Seal = Callable[[bytes], bytes]
"""Assignment bytes -> DSSE envelope bytes, signed by the director key."""


AT_ONCE = 1_000
"""Devices whose documents are made together."""

_STANDING = (
    select(
        devices.c.name,
        devices.c.federated,
        devices.c.reported_sequence,
        devices.c.desired_sequence,
        desired.c.envelope,
    )
    .join(desired, desired.c.device == devices.c.name, isouter=True)
    .where(among(devices.c.name, "names"))
    .order_by(devices.c.name)
)
_ENVELOPES = (
    select(desired.c.device, desired.c.envelope).where(among(desired.c.device, "names")).order_by(desired.c.device)
)
_SUCCEEDED = select(members.c.execution).where(
    among(members.c.execution, "names"), members.c.outcome == Outcome.SUCCEEDED
)
_ENTER = entering(desired, ("device",), ("envelope", "signer", "issued_ns", "wanted"))
_NUMBER = updating(devices, ("name",), ("desired_sequence", "desired_digest"))

_OUTDATED = select(devices.c.name).where(AHEAD).order_by(devices.c.name)
_AHEAD = _OUTDATED.where(among(devices.c.name, "names")).limit(1)
_FOREIGN = select(desired.c.device).where(desired.c.signer != bindparam("signer")).order_by(desired.c.device)
_EVERYTHING = select(desired.c.device, desired.c.envelope).order_by(desired.c.device)
_UNCONFIRMED = (
    select(desired.c.device, desired.c.envelope)
    .join(devices, devices.c.name == desired.c.device)
    .where(BEHIND)
    .order_by(devices.c.name)
)
UNSETTLED = select(devices.c.name).where(BEHIND).exists() | select(devices.c.name).where(AHEAD).exists()
"""Is there a device that is `outdated` or `unconfirmed`?"""


class DirectorError(Exception):
    """Our own assignment breaks the contract: a defect of the hub."""


def assign(conn: Connection, wanted: Mapping[str, SlotAssignment], seal: Seal, now_ns: int) -> None:
    """Make each slot what its device shall run there, beside its other slots."""
    for names in _portions(sorted(wanted)):
        documents = []
        for row in _standing(conn, names):
            slot, before = wanted[row.name], _decoded(row.envelope)
            slots = {one.slot: one for one in before.slots} if before else {}
            slots[slot.slot] = slot
            documents.append(_document(row, tuple(slots[name] for name in sorted(slots)), now_ns))
        _issue(conn, documents, seal)


def outdated(conn: Connection) -> list[str]:
    """Devices that have accepted what we do not know of: a thief signed it, or our database is a backup."""
    return list(conn.execute(_OUTDATED).scalars())


def ahead(conn: Connection, names: Sequence[str]) -> bool:
    """Is one of these `outdated`?"""
    return conn.execute(_AHEAD, {"names": names}).first() is not None


def withdraw(conn: Connection, names: Iterable[str], slot: str, seal: Seal, now_ns: int) -> None:
    """Desire nothing of this slot any more: the devices keep what they run there."""
    standing = _standing(conn, names)
    before = [(row, _decoded(row.envelope)) for row in standing]
    kept = [(row, tuple(each for each in one.slots if each.slot != slot)) for row, one in before if one]
    _issue(conn, [_document(row, slots, now_ns) for row, slots in kept], seal)


def executions(conn: Connection, names: Iterable[str], slot: str) -> dict[str, str]:
    """The execution that is desired of each device in this slot, where there is one."""
    standing = _standing(conn, names)
    before = [(row, _decoded(row.envelope)) for row in standing]
    return {row.name: each.execution.id for row, one in before if one for each in one.slots if each.slot == slot}


def reissue_outdated(conn: Connection, seal: Seal, now_ns: int) -> None:
    """Issue anew for these devices."""
    _reissue(conn, outdated(conn), seal, now_ns)


def reissue_foreign(conn: Connection, director: str, seal: Seal, now_ns: int) -> None:
    """Issue anew what another key than this director's (public, hex) has signed: the root has replaced that key."""
    foreign = conn.execute(_FOREIGN, {"signer": keyid(bytes.fromhex(director))})
    _reissue(conn, foreign.scalars().all(), seal, now_ns)


def everything(conn: Connection, topics: Topics) -> Effects:
    """All desired documents: for a broker that has just come up."""
    rows = conn.execute(_EVERYTHING)
    return Effects(tuple(publication(topics, row.device, row.envelope) for row in rows))


def unconfirmed(conn: Connection, topics: Topics) -> Effects:
    """The documents that online devices have not accepted."""
    rows = conn.execute(_UNCONFIRMED)
    return Effects(tuple(publication(topics, row.device, row.envelope) for row in rows))


def of_devices(conn: Connection, names: list[str], topics: Topics) -> Effects:
    """The documents of these devices."""
    rows = conn.execute(_ENVELOPES, {"names": names})
    return Effects(tuple(publication(topics, row.device, row.envelope) for row in rows))


def assignment_in(envelope: bytes) -> Assignment:
    """What we have sealed, as the database has it."""
    return decode(payload_of(envelope, limit=MAX_CONTROL_BYTES), Assignment, limit=MAX_ASSIGNMENT_BYTES)


def publication(topics: Topics, device: str, envelope: bytes) -> Publish:
    """A desired document travels retained."""
    return Publish(topics.dn(device, "desired"), envelope, retain=True)


def _reissue(conn: Connection, names: Sequence[str], seal: Seal, now_ns: int) -> None:
    """The same wishes again, above what the devices have accepted."""
    for portion in _portions(names):
        standing = _standing(conn, portion)
        wishes = [one.slots if (one := _decoded(row.envelope)) else () for row in standing]
        succeeded = _succeeded(conn, wishes)
        documents = [
            _document(row, tuple(_at_any_time(one) if one.execution.id in succeeded else one for one in slots), now_ns)
            for row, slots in zip(standing, wishes, strict=True)
        ]
        _issue(conn, documents, seal)


def _portions(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """A wave may be most of a large fleet: what is made of it lies in memory by portions only."""
    return (names[first : first + AT_ONCE] for first in range(0, len(names), AT_ONCE))


def _succeeded(conn: Connection, wishes: Iterable[Iterable[SlotAssignment]]) -> frozenset[str]:
    """Which of these executions have succeeded."""
    names = {one.execution.id for slots in wishes for one in slots if one.execution.windows is not msgspec.UNSET}
    return frozenset(conn.execute(_SUCCEEDED, {"names": sorted(names)}).scalars()) if names else frozenset()


def _at_any_time(wish: SlotAssignment) -> SlotAssignment:
    """What was carried out in its hours, and undone by somebody else since, is repaired at any."""
    return msgspec.structs.replace(wish, execution=msgspec.structs.replace(wish.execution, windows=msgspec.UNSET))


def _standing(conn: Connection, names: Iterable[str]) -> Sequence[Any]:
    """What was last wanted of devices, and what they have accepted."""
    return conn.execute(_STANDING, {"names": sorted(names)}).all()


def _decoded(envelope: bytes | None) -> Assignment | None:
    return None if envelope is None else assignment_in(envelope)


def _document(row: Row[Any], slots: tuple[SlotAssignment, ...], now_ns: int) -> Assignment:
    """Above both our own last sequence and whatever the device has accepted."""
    return Assignment(
        schema=schema_of(slots),
        device=row.name,
        sequence=max(row.desired_sequence, row.reported_sequence) + 1,
        issued_ns=now_ns,
        slots=slots,
        federated=FederatedPolicy(enabled=row.federated),
    )


def _issue(conn: Connection, documents: Sequence[Assignment], seal: Seal) -> None:
    rows = [_sealed(document, seal) for document in documents]
    _ENTER.run(conn, rows)
    _NUMBER.run(conn, rows)


def _sealed(document: Assignment, seal: Seal) -> dict[str, Any]:
    """What goes into `desired` (under `device`) and into `devices` (under `name`)."""
    payload = encode(document)
    if len(payload) > MAX_ASSIGNMENT_BYTES:
        raise DirectorError(
            f"the assignment of {document.device} has {len(payload)} bytes; {MAX_ASSIGNMENT_BYTES} are allowed"
        )
    envelope = seal(payload)
    return {
        "device": document.device,
        "name": document.device,
        "desired_sequence": document.sequence,
        "desired_digest": assignment_digest(payload),
        "envelope": envelope,
        "signer": decode(envelope, Envelope).signatures[0].keyid,
        "issued_ns": document.issued_ns,
        "wanted": _wanted(document),
    }


def _wanted(document: Assignment) -> str:
    """The same text for all devices that are to run the same."""
    return encode(sorted({(one.model, one.version, one.variant) for one in document.slots})).decode()
