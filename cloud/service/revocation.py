"""Taking an identity away, and calling off a clone alarm: what an operator does about a device in doubt.

From the commit on the hub hears nothing of a revoked device. The broker is told next: logins gone, certificates on the
revocation list, live connections ended. Only a new claim brings the device back.
"""

from sqlalchemy import Connection, delete, select, update

from cloud.errors import ConflictError, UnknownError
from cloud.service import audit, certificates
from cloud.service.effects import NOTHING, Effects, Publish, Wake
from cloud.service.rollouts import leaving
from cloud.tables import claims, devices
from wire.codec import encode
from wire.messages import Status
from wire.topics import Topics


def revoke(conn: Connection, device: str, reason: str, by: tuple[str, int], topics: Topics) -> Effects:
    """End the device's identity, `by` = (actor, now). Repeating it changes nothing. Raises UnknownError."""
    actor, now_ns = by
    row = conn.execute(select(devices.c.revoked_ns).where(devices.c.name == device)).one_or_none()
    if row is None:
        raise UnknownError(f"there is no device {device!r}")
    if row.revoked_ns is not None:
        return NOTHING
    gone = {
        "revoked_ns": now_ns,
        "verifier": None,
        "online": False,
        "gone_ns": now_ns,
        "clone_suspected_ns": None,
        "sessions": None,
    }
    conn.execute(update(devices).where(devices.c.name == device).values(gone))
    conn.execute(delete(claims).where(claims.c.device == device))
    certificates.revoke_all(conn, device, now_ns)
    leaving.cancel(conn, device, "the device was revoked", now_ns)
    states = {"before": {"revoked_ns": None}, "after": {"revoked_ns": now_ns}}
    audit.record(conn, now_ns, actor, ("device.revoke", device), **states, reason=reason)
    return Effects(_silence(device, topics), frozenset({Wake.USERS, Wake.ROLLOUTS}))


def call_off_clone_alarm(conn: Connection, device: str, actor: str, now_ns: int) -> Effects:
    """The operator has looked into it. Raises UnknownError, ConflictError."""
    row = conn.execute(select(devices.c.clone_suspected_ns).where(devices.c.name == device)).one_or_none()
    if row is None:
        raise UnknownError(f"there is no device {device!r}")
    if row.clone_suspected_ns is None:
        raise ConflictError(f"there is no clone alarm for {device}")
    calm = {"clone_suspected_ns": None, "sessions": None}
    conn.execute(update(devices).where(devices.c.name == device).values(calm))
    states = {
        name: {"clone_suspected_ns": value} for name, value in (("before", row.clone_suspected_ns), ("after", None))
    }
    audit.record(conn, now_ns, actor, ("device.clone_alarm_off", device), **states)
    return NOTHING


def _silence(device: str, topics: Topics) -> tuple[Publish, ...]:
    """Its own last will may no longer be permitted, and nothing shall wait for it."""
    status = Publish(topics.up(device, "status"), encode(Status(online=False)), retain=True)
    return status, Publish(topics.dn(device, "desired"), b"", retain=True)
