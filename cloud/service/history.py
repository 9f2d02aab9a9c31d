"""What happened to one device, newest first: from the audit trail, from its executions, and from what was seen of it.

Only what is kept nowhere else has a table of its own: absences longer than the grace, and changes of the agent.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from cloud.core.presence import absence
from cloud.tables import audit, device_events, members, rollouts

ABSENT, AGENT = "absent", "agent"
KEEP_NS = 90 * 24 * 3600 * 1_000_000_000
"""For how long that is kept."""
PRUNED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `actor`: who did it; empty = the device itself, or nobody."""

    at_ns: int
    event: str
    actor: str
    detail: dict[str, Any]


def note(conn: Connection, device: str, event: str, now_ns: int, **detail: Any) -> None:
    """Keep what was seen of a device."""
    conn.execute(insert(device_events).values(device=device, event=event, at_ns=now_ns, detail=detail))


def back(conn: Connection, row: Row[Any], now_ns: int) -> None:
    """The device is heard of again; `row` is what the hub knew before."""
    away_ns = absence(row.gone_ns, now_ns)
    if away_ns is not None:
        note(conn, row.name, ABSENT, now_ns, since_ns=row.gone_ns, seconds=round(away_ns / 1e9, 3))


def of_device(conn: Connection, device: str, before_ns: int, limit: int) -> list[Event]:
    """The newest `limit` events before `before_ns`."""
    found = [
        *_audited(conn, device, before_ns, limit),
        *_executions(conn, device, before_ns, limit),
        *_seen(conn, device, before_ns, limit),
    ]
    return sorted(found, key=lambda one: -one.at_ns)[:limit]


def forget(conn: Connection, before_ns: int) -> int:
    """Remove some of what was seen before; returns how much."""
    old = select(device_events.c.id).where(device_events.c.at_ns < before_ns).limit(PRUNED_AT_ONCE)
    return conn.execute(delete(device_events).where(device_events.c.id.in_(old))).rowcount


def _audited(conn: Connection, device: str, before_ns: int, limit: int) -> list[Event]:
    query = select(audit).where(audit.c.subject == device, audit.c.action.startswith("device."))
    rows = conn.execute(query.where(audit.c.at_ns < before_ns).order_by(audit.c.id.desc()).limit(limit))
    return [Event(row.at_ns, row.action.removeprefix("device."), row.actor, row.detail | _states(row)) for row in rows]


def _states(row: Any) -> dict[str, Any]:
    """What the change replaced by what, where that was said."""
    return {name: state for name, state in (("before", row.before), ("after", row.after)) if state is not None}


def _executions(conn: Connection, device: str, before_ns: int, limit: int) -> list[Event]:
    query = (
        select(members, rollouts.c.model, rollouts.c.version, rollouts.c.slot)
        .join(rollouts, rollouts.c.id == members.c.rollout)
        .where(members.c.device == device)
    )
    begun = query.where(members.c.assigned_ns < before_ns).order_by(members.c.assigned_ns.desc()).limit(limit)
    ended = query.where(members.c.finished_ns < before_ns).order_by(members.c.finished_ns.desc()).limit(limit)
    return [
        *(Event(row.assigned_ns, "assigned", "", _what(row)) for row in conn.execute(begun)),
        *(Event(row.finished_ns, row.outcome, "", _what(row) | {"reason": row.reason}) for row in conn.execute(ended)),
    ]


def _seen(conn: Connection, device: str, before_ns: int, limit: int) -> list[Event]:
    query = select(device_events).where(device_events.c.device == device, device_events.c.at_ns < before_ns)
    rows = conn.execute(query.order_by(device_events.c.at_ns.desc(), device_events.c.id.desc()).limit(limit))
    return [Event(row.at_ns, row.event, "", row.detail) for row in rows]


def _what(row: Any) -> dict[str, Any]:
    return {"rollout": row.rollout, "slot": row.slot, "model": row.model, "version": row.version}
