"""Whom the hub listens to: enrolled devices that are not revoked, whatever the broker lets through."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from cloud.many import among
from cloud.tables import ENROLLED, devices

_MARKS = (
    devices.c.name,
    devices.c.enrolled_ns,
    devices.c.reported_seq,
    devices.c.telemetry_seq,
    devices.c.refusal_count,
    devices.c.gone_ns,
    devices.c.agent,
)
"""What one has to know of a device to take its reports and telemetry: there are many of these, so it is little."""
NAMED = select(*_MARKS).where(among(devices.c.name, "names"))
HEARD = NAMED.where(ENROLLED)


def heard(conn: Connection, names: Iterable[str]) -> dict[str, Row[Any]]:
    """The marks of those of `names` that are listened to."""
    rows: Sequence[Row[Any]] = conn.execute(HEARD, {"names": sorted(set(names))}).all()
    return {row.name: row for row in rows}
