"""Whom the hub listens to: enrolled devices that are not revoked, whatever the broker lets through.

What it does not take of what they send is counted, with the reason of the newest.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, select

from cloud.many import among, updating
from cloud.tables import ENROLLED, devices

MAX_REASON = 500

_MARKS = (
    devices.c.name,
    devices.c.enrolled_ns,
    devices.c.reported_seq,
    devices.c.reported_sequence,
    devices.c.reported_digest,
    devices.c.telemetry_seq,
    devices.c.telemetry_ahead,
    devices.c.refusal_count,
    devices.c.gone_ns,
    devices.c.agent,
)
"""What one has to know of a device to take its reports and telemetry: there are many of these, so it is little."""
NAMED = select(*_MARKS).where(among(devices.c.name, "names"))
HEARD = NAMED.where(ENROLLED)
_REFUSE = updating(devices, ("name",), ("last_refusal", "refusal_count", "last_refusal_ns"))


@dataclass(slots=True)
class Sender:
    """A device of a batch. `row` has its name and refusal_count."""

    row: Row[Any]
    refusals: int = field(default=0, init=False)
    """Messages of this batch that were not taken."""
    reason: str = field(default="", init=False)
    """Why the newest of them was not."""

    def refuse(self, channel: str, reason: object) -> None:
        """Note why a message of this channel was not taken."""
        self.refusals += 1
        self.reason = f"{channel}: {reason}"[:MAX_REASON].replace("\0", "?")


def heard(conn: Connection, names: Iterable[str]) -> dict[str, Row[Any]]:
    """The marks of those of `names` that are listened to."""
    rows: Sequence[Any] = conn.execute(HEARD, {"names": sorted(set(names))}).all()
    return {row.name: row for row in rows}


def store_refusals(conn: Connection, senders: Iterable[Sender], now_ns: int) -> None:
    """Count what was refused of this batch."""
    refused = [
        {"name": one.row.name, "last_refusal": one.reason, "refusal_count": one.row.refusal_count + one.refusals}
        | {"last_refusal_ns": now_ns}
        for one in senders
        if one.refusals
    ]
    _REFUSE.run(conn, refused)
