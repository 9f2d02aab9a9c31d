"""What operators change about a device itself: its labels, and that it is gone for good."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, delete, select, update

from cloud.errors import ConflictError, InvalidError, UnknownError
from cloud.service import audit, revocation
from cloud.service.effects import NOTHING, Effects, Wake, wake
from cloud.tables import desired, devices, pins
from wire.topics import Topics

MAX_LABELS = 32


def edit_labels(
    conn: Connection, device: str, put: Mapping[str, str], drop: Sequence[str], by: tuple[str, int]
) -> Effects:
    """Put these labels and drop those, `by` = (actor, now). Groups and rollouts see the change at once.

    Raises UnknownError; InvalidError: a label is put and dropped, or there would be too many.
    """
    actor, now_ns = by
    both = sorted(set(put) & set(drop))
    if both:
        raise InvalidError(f"label {both[0]!r} cannot be put and dropped at once")
    before = conn.scalar(select(devices.c.labels).where(devices.c.name == device))
    if before is None:
        raise UnknownError(f"there is no device {device!r}")
    after = {name: value for name, value in {**before, **put}.items() if name not in drop}
    if len(after) > MAX_LABELS:
        raise InvalidError(f"{device} would have {len(after)} labels; {MAX_LABELS} are allowed")
    if after == before:
        return NOTHING
    conn.execute(update(devices).where(devices.c.name == device).values(labels=after))
    states = {"before": {"labels": before}, "after": {"labels": after}}
    audit.record(conn, now_ns, actor, ("device.label", device), **states)
    return wake(Wake.ROLLOUTS)


def edit(conn: Connection, device: str, federated: bool, by: tuple[str, int]) -> Effects:
    """May it take part in federated learning? `by` = (actor, now). Raises UnknownError."""
    actor, now_ns = by
    before = conn.scalar(select(devices.c.federated).where(devices.c.name == device))
    if before is None:
        raise UnknownError(f"there is no device {device!r}")
    if federated == before:
        return NOTHING
    conn.execute(update(devices).where(devices.c.name == device).values(federated=federated))
    states = {"before": {"federated": before}, "after": {"federated": federated}}
    audit.record(conn, now_ns, actor, ("device.edit", device), **states)
    return NOTHING


def decommission(conn: Connection, device: str, reason: str, by: tuple[str, int], topics: Topics) -> Effects:
    """Take the device out for good, `by` = (actor, now): revoked, and nothing is desired of it. Its history stays.

    Its name is given away again only by a claim that says `replaces`. Raises UnknownError, ConflictError.
    """
    actor, now_ns = by
    row = conn.execute(select(devices.c.decommissioned_ns).where(devices.c.name == device)).one_or_none()
    if row is None:
        raise UnknownError(f"there is no device {device!r}")
    if row.decommissioned_ns is not None:
        raise ConflictError(f"device {device} was decommissioned already")
    effects = revocation.revoke(conn, device, reason, by, topics)
    for table in (desired, pins):
        conn.execute(delete(table).where(table.c.device == device))
    gone = {"decommissioned_ns": now_ns, "desired_sequence": 0, "desired_digest": "", "held_ns": None}
    gone |= {"held_reason": "", "held_by": ""}
    conn.execute(update(devices).where(devices.c.name == device).values(gone))
    audit.record(conn, now_ns, actor, ("device.decommission", device), reason=reason)
    return effects
