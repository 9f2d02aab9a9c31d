"""Whom the hub listens to: enrolled devices that are not revoked, whatever the broker lets through."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Row, select

from cloud.tables import ENROLLED, devices

_MARKS = (
    devices.c.name,
    devices.c.reported_seq,
    devices.c.telemetry_seq,
    devices.c.refusal_count,
    devices.c.gone_ns,
    devices.c.agent,
)
"""What one has to know of a device to take its reports and telemetry: there are many of these, so it is little."""


def heard(conn: Connection, names: Iterable[str]) -> dict[str, Row[Any]]:
    """The marks of those of `names` that are listened to."""
    query = select(*_MARKS).where(devices.c.name.in_(sorted(set(names))), ENROLLED)
    rows: Iterable[Row[Any]] = conn.execute(query)
    return {row.name: row for row in rows}


def known(conn: Connection, name: str) -> Row[Any] | None:
    """All that is known of a device, if it is listened to."""
    return conn.execute(select(devices).where(devices.c.name == name, ENROLLED)).one_or_none()
