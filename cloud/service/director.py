"""The desired state of devices. Its sequence number is allocated, and it is signed, in the transaction that changes it.

Publishing is not part of the truth: whatever a device has not accepted yet is published again, on a timer and after
every restart of broker or hub.
"""

from collections.abc import Callable

from sqlalchemy import Connection, select

from cloud.service.effects import Effects, Publish
from cloud.tables import desired, devices
from cloud.upsert import upsert
from wire.assignment import Assignment, FederatedPolicy, SlotAssignment
from wire.codec import MAX_ASSIGNMENT_BYTES, decode, encode
from wire.dsse import Envelope, keyid
from wire.topics import Topics

Seal = Callable[[bytes], bytes]
"""Assignment bytes -> DSSE envelope bytes, signed by the director key."""


class DirectorError(Exception):
    """Our own assignment breaks the contract: a defect of the hub."""


def assign(conn: Connection, device: str, slot: SlotAssignment, seal: Seal, now_ns: int) -> None:
    """Make `slot` what `device` shall run there, beside its other slots."""
    before = _current(conn, device)
    slots = {one.slot: one for one in before.slots} if before else {}
    slots[slot.slot] = slot
    _issue(conn, device, tuple(slots[name] for name in sorted(slots)), seal, now_ns)


def reissue_outdated(conn: Connection, seal: Seal, now_ns: int) -> None:
    """Issue anew where a device has accepted a higher sequence than we know: our database came from a backup."""
    ahead = (
        select(desired.c.device)
        .join(devices, devices.c.name == desired.c.device)
        .where(devices.c.reported_sequence > desired.c.sequence)
        .order_by(desired.c.device)
    )
    for device in conn.execute(ahead).scalars().all():
        before = _current(conn, device)
        _issue(conn, device, before.slots if before else (), seal, now_ns)


def reissue_foreign(conn: Connection, director: str, seal: Seal, now_ns: int) -> None:
    """Issue anew what another key than this director's (public, hex) has signed: the root has replaced that key."""
    foreign = select(desired.c.device).where(desired.c.signer != keyid(bytes.fromhex(director)))
    for device in conn.execute(foreign.order_by(desired.c.device)).scalars().all():
        before = _current(conn, device)
        _issue(conn, device, before.slots if before else (), seal, now_ns)


def everything(conn: Connection, topics: Topics) -> Effects:
    """All desired documents: for a broker that has just come up."""
    rows = conn.execute(select(desired.c.device, desired.c.envelope).order_by(desired.c.device))
    return Effects(tuple(publication(topics, row.device, row.envelope) for row in rows))


def unconfirmed(conn: Connection, topics: Topics) -> Effects:
    """The documents that online devices have not accepted."""
    rows = conn.execute(
        select(desired.c.device, desired.c.envelope)
        .join(devices, devices.c.name == desired.c.device)
        .where(devices.c.reported_sequence < desired.c.sequence, devices.c.online)
        .order_by(desired.c.device)
    )
    return Effects(tuple(publication(topics, row.device, row.envelope) for row in rows))


def of_devices(conn: Connection, names: list[str], topics: Topics) -> Effects:
    """The documents of these devices."""
    query = select(desired.c.device, desired.c.envelope).where(desired.c.device.in_(names)).order_by(desired.c.device)
    return Effects(tuple(publication(topics, row.device, row.envelope) for row in conn.execute(query)))


def publication(topics: Topics, device: str, envelope: bytes) -> Publish:
    """A desired document travels retained."""
    return Publish(topics.dn(device, "desired"), envelope, retain=True)


def _current(conn: Connection, device: str) -> Assignment | None:
    payload = conn.execute(select(desired.c.assignment).where(desired.c.device == device)).scalar_one_or_none()
    return None if payload is None else decode(payload, Assignment, limit=MAX_ASSIGNMENT_BYTES)


def _issue(conn: Connection, device: str, slots: tuple[SlotAssignment, ...], seal: Seal, now_ns: int) -> None:
    """Above both our own last sequence and whatever the device has accepted."""
    row = conn.execute(
        select(devices.c.federated, devices.c.reported_sequence, desired.c.sequence)
        .join(desired, desired.c.device == devices.c.name, isouter=True)
        .where(devices.c.name == device)
    ).one()
    document = Assignment(
        device=device,
        sequence=max(row.sequence or 0, row.reported_sequence) + 1,
        issued_ns=now_ns,
        slots=slots,
        federated=FederatedPolicy(enabled=row.federated),
    )
    payload = encode(document)
    if len(payload) > MAX_ASSIGNMENT_BYTES:
        raise DirectorError(f"the assignment of {device} has {len(payload)} bytes; {MAX_ASSIGNMENT_BYTES} are allowed")
    envelope = seal(payload)
    values = {
        "sequence": document.sequence,
        "assignment": payload,
        "envelope": envelope,
        "signer": decode(envelope, Envelope).signatures[0].keyid,
        "issued_ns": now_ns,
    }
    statement = upsert(desired).values(device=device, **values)
    conn.execute(statement.on_conflict_do_update(index_elements=["device"], set_=values))
