"""What becomes of old telemetry: points turn into hours, hours end.

A point that is old enough is taken into its hour and removed in the same transaction, so it counts once. An hour holds
the counters of each variant as the last point of that hour told them; counters only grow, so the difference of two
hours is what happened between them. Of variants that are not in the registry nothing is kept. Every step is small: what
devices say goes on being taken in between.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Table, bindparam, delete, select

from cloud.service.telemetry import counters_of, known_variants
from cloud.tables import telemetry_hours, telemetry_points
from cloud.upsert import upsert
from wire.codec import decode
from wire.errors import WireError
from wire.messages import Telemetry
from wire.ports import SECOND

AT_ONCE = 2_000
"""Rows that one transaction removes, so that nobody waits for it."""
HOUR_NS = 3600 * SECOND


def roll_up(conn: Connection, before_ns: int) -> int:
    """Turn the oldest points received before `before_ns` into hours, at most AT_ONCE; returns how many there were."""
    received = telemetry_points.c.received_ns
    oldest = select(telemetry_points).where(received < before_ns).order_by(received, telemetry_points.c.seq)
    rows = conn.execute(oldest.limit(AT_ONCE)).all()
    hours = _hours(rows)
    known = known_variants(conn, (key[2:] for key in hours))
    _enter(conn, (hour for key, hour in hours.items() if key[2:] in known))
    _remove(conn, telemetry_points, ("device", "hardware_ns", "seq"), rows)
    return len(rows)


def forget(conn: Connection, before_ns: int) -> int:
    """Remove the oldest hours that began before `before_ns`, at most AT_ONCE; returns how many there were."""
    keys = ("device", "hour_ns", "model", "version", "variant")
    began = telemetry_hours.c.hour_ns
    oldest = select(*(telemetry_hours.c[key] for key in keys)).where(began < before_ns).order_by(began)
    rows = conn.execute(oldest.limit(AT_ONCE)).all()
    _remove(conn, telemetry_hours, keys, rows)
    return len(rows)


def _hours(points: Iterable[Row[Any]]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Points in order of arrival, by hour and variant: the newest counters, and how many points told of them."""
    hours: dict[tuple[Any, ...], dict[str, Any]] = {}
    for point in points:
        hour_ns = point.received_ns - point.received_ns % HOUR_NS
        for one in _read(point.content):
            key = (point.device, hour_ns, one.model, one.version, one.variant)
            before = hours[key]["points"] if key in hours else 0
            names = {"device": point.device, "hour_ns": hour_ns, "model": one.model}
            which = {"version": one.version, "variant": one.variant}
            hours[key] = {**names, **which, "points": before + 1, **counters_of(one)}
    return hours


def _read(content: bytes) -> tuple[Any, ...]:
    """The counters in a message, if this hub still reads what an older one took."""
    try:
        return decode(content, Telemetry).stats
    except (WireError, msgspec.MsgspecError):
        return ()


def _enter(conn: Connection, hours: Iterable[dict[str, Any]]) -> None:
    rows = list(hours)
    if rows:
        row = upsert(telemetry_hours)
        counters = ("predictions", "feedback", "correct", "confidence_sum", "latency_us")
        values: dict[str, Any] = {name: row.excluded[name] for name in counters}
        values["points"] = telemetry_hours.c.points + row.excluded.points
        keys = ["device", "hour_ns", "model", "version", "variant"]
        conn.execute(row.on_conflict_do_update(index_elements=keys, set_=values), rows)


def _remove(conn: Connection, table: Table, keys: tuple[str, ...], rows: Iterable[Row[Any]]) -> None:
    doomed = [{f"of_{key}": getattr(row, key) for key in keys} for row in rows]
    if doomed:
        conn.execute(delete(table).where(*(table.c[key] == bindparam(f"of_{key}") for key in keys)), doomed)
