"""Whom the hub listens to: enrolled devices that are not revoked, whatever the broker lets through."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Row, select

from cloud.tables import ENROLLED, devices


def heard(conn: Connection, names: Iterable[str]) -> dict[str, Row[Any]]:
    """The rows of those of `names` that are listened to."""
    query = select(devices).where(devices.c.name.in_(sorted(set(names))), ENROLLED)
    return {row.name: row for row in conn.execute(query)}
