"""Who is there, taken by the batch: statuses that devices sent, and last wills that the broker sent for them.

A device may say several things in one batch; they are judged in order, and what came of it is written once. What is
refused changes nothing but the device's `last_refusal`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from cloud.core import presence
from cloud.core.clones import Session, Turns, are_clones, on_session
from cloud.core.plausible import check_status
from cloud.core.presence import Presence
from cloud.many import among, updating
from cloud.service import audit, history
from cloud.service.effects import NOTHING, Effects, Wake, wake
from cloud.service.senders import Sender, store_refusals
from cloud.tables import ENROLLED, devices
from wire.codec import decode
from wire.errors import WireError
from wire.messages import Status
from wire.topics import Topics

_COLUMNS = (
    devices.c.name,
    devices.c.online,
    devices.c.boot,
    devices.c.seen_ns,
    devices.c.gone_ns,
    devices.c.sessions,
    devices.c.clone_suspected_ns,
    devices.c.refusal_count,
)
_KNOWN = select(*_COLUMNS).where(among(devices.c.name, "names"), ENROLLED)
_PRESENCE = updating(devices, ("name",), ("online", "boot", "seen_ns", "gone_ns"))
_TURNS = updating(devices, ("name",), ("sessions", "clone_suspected_ns"))


@dataclass(slots=True)
class _Sender(Sender):
    """A device of this batch, and what its statuses have changed so far."""

    presence: Presence
    turns: Turns
    gone_ns: int | None
    suspected_ns: int | None

    @property
    def moved(self) -> bool:
        """Is anything known of its presence that was not?"""
        return self.presence != Presence(self.row.online, self.row.boot, self.row.seen_ns)


def take(conn: Connection, batch: Sequence[tuple[str, bytes]], now_ns: int, topics: Topics) -> Effects:
    """Take statuses, (device, payload) in order of arrival. Never raises on what a device sent."""
    rows = conn.execute(_KNOWN, {"names": sorted({name for name, _ in batch})})
    senders = {row.name: _sender(row) for row in rows}
    for name, payload in batch:
        if name in senders and payload:  # a cleared retained status says nothing
            _one(conn, senders[name], payload, now_ns)
    _store(conn, senders, now_ns)
    return wake(Wake.ROLLOUTS) if any(sender.moved for sender in senders.values()) else NOTHING


def _sender(row: Any) -> _Sender:
    turns = msgspec.convert(row.sessions or {}, Turns)
    here = Presence(row.online, row.boot, row.seen_ns)
    return _Sender(row, here, turns, row.gone_ns, row.clone_suspected_ns)


def _one(conn: Connection, sender: _Sender, payload: bytes, now_ns: int) -> None:
    try:
        status = decode(payload, Status)
        check_status(status)
    except WireError as error:
        sender.refuse("status", error)
        return
    if status.online:
        _notice_session(conn, sender, Session(status.session, status.boot), now_ns)
    before = sender.presence
    after = presence.on_status(before, online=status.online, boot=status.boot, now_ns=now_ns)
    if after == before:
        return
    if after.online and sender.gone_ns == sender.row.gone_ns:  # else it came back within this batch already
        history.back(conn, sender.row, now_ns)
    sender.presence = Presence(after.online, max(before.boot, status.boot), after.seen_ns)
    sender.gone_ns = None if after.online else (sender.gone_ns or now_ns)


def _notice_session(conn: Connection, sender: _Sender, spoke: Session, now_ns: int) -> None:
    """The clone alarm: raised once, kept until an operator calls it off, replaces the device or revokes it."""
    after = on_session(sender.turns, spoke)
    if after == sender.turns:
        return
    sender.turns = after
    if sender.suspected_ns is None and are_clones(after):
        sender.suspected_ns = now_ns
        audit.record(conn, now_ns, audit.HUB, ("device.clone_suspected", sender.row.name), returns=after.returns)


def _store(conn: Connection, senders: dict[str, _Sender], now_ns: int) -> None:
    here = [
        {"name": name, "online": one.presence.online, "boot": one.presence.boot}
        | {"seen_ns": one.presence.seen_ns, "gone_ns": one.gone_ns}
        for name, one in senders.items()
        if one.moved
    ]
    turned = [
        {"name": name, "sessions": msgspec.to_builtins(one.turns), "clone_suspected_ns": one.suspected_ns}
        for name, one in senders.items()
        if one.turns != msgspec.convert(one.row.sessions or {}, Turns)
    ]
    _PRESENCE.run(conn, here)
    _TURNS.run(conn, turned)
    store_refusals(conn, senders.values(), now_ns)
