"""Whom the hub listens to: enrolled devices only, whatever the broker lets through."""

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from cloud.tables import devices

HEARD: Final = devices.c.verifier.is_not(None)
"""The condition on a device's row. One that was removed meanwhile is not heard."""


def heard(conn: Connection, names: Iterable[str]) -> dict[str, Row[Any]]:
    """The rows of those of `names` that are listened to."""
    query = select(devices).where(devices.c.name.in_(sorted(set(names))), HEARD)
    return {row.name: row for row in conn.execute(query)}
