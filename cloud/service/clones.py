"""The clone alarm: raised once, kept until an operator calls it off, replaces the device or revokes it."""

from dataclasses import asdict
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, update

from cloud.core.clones import Session, Turns, are_clones, on_session
from cloud.service import audit
from cloud.tables import devices


def notice(conn: Connection, row: Row[Any], spoke: Session, now_ns: int) -> None:
    """A session of the device in `row` said that it is there."""
    before = msgspec.convert(row.sessions or {}, Turns)
    after = on_session(before, spoke)
    if after == before:
        return
    values: dict[str, Any] = {"sessions": asdict(after)}
    if row.clone_suspected_ns is None and are_clones(after):
        values["clone_suspected_ns"] = now_ns
        audit.record(conn, now_ns, audit.HUB, ("device.clone_suspected", row.name), returns=after.returns)
    conn.execute(update(devices).where(devices.c.name == row.name).values(values))
