"""What devices say, taken in batches: one transaction, then receipts, then MQTT acknowledgements.

What is refused changes nothing but the device's `last_refusal`. Reports and telemetry have rules and modules of their
own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, update

from cloud.core import presence
from cloud.core.clones import Session
from cloud.core.plausible import check_status
from cloud.service import clones, history, reports, telemetry
from cloud.service.effects import NOTHING, Effects, Wake, wake
from cloud.service.enrolment import Door
from cloud.service.senders import known
from cloud.tables import devices
from wire.codec import decode
from wire.errors import WireError
from wire.messages import Status
from wire.topics import Enrolment, Parsed, Topics, Upward

MAX_REASON = 500


@dataclass(frozen=True, slots=True)
class Received:
    """One message as it came from the broker."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class _Sender:
    """The device that a message came from, and what the handlers need beside it."""

    conn: Connection
    row: Row[Any]
    now_ns: int

    def change(self, **values: Any) -> None:
        """Update the device's row."""
        self.conn.execute(update(devices).where(devices.c.name == self.row.name).values(values))

    def refuse(self, reason: str) -> None:
        """Note why a message was not taken."""
        count = self.row.refusal_count + 1
        self.change(
            last_refusal=reason[:MAX_REASON].replace("\0", "?"), last_refusal_ns=self.now_ns, refusal_count=count
        )


def apply(conn: Connection, batch: Sequence[Received], now_ns: int, door: Door) -> Effects:
    """Take a batch in order, runs of reports and of telemetry together. Never raises on what a device sent."""
    effects = NOTHING
    parsed = [(_parse(door.topics, message.topic), message.payload) for message in batch]
    for channel, run in groupby(parsed, key=lambda one: _batched(one[0])):
        if channel is None:
            for topic, payload in run:
                effects += _one(conn, topic, payload, now_ns, door)
        else:
            told = [(topic.device, payload) for topic, payload in run if isinstance(topic, Upward)]
            effects += _BATCHES[channel](conn, told, now_ns, door.topics)
    return effects


def _parse(topics: Topics, topic: str) -> Parsed | None:
    """None: it is not of this contract, and there is nobody to blame it on."""
    try:
        return topics.parse(topic)
    except WireError:
        return None


_BATCHES = {"telemetry": telemetry.take, "reported": reports.take}
"""Channels whose messages are taken together."""


def _batched(topic: Parsed | None) -> str | None:
    return topic.channel if isinstance(topic, Upward) and topic.channel in _BATCHES else None


def _one(conn: Connection, topic: Parsed | None, payload: bytes, now_ns: int, door: Door) -> Effects:
    if isinstance(topic, Enrolment) and topic.direction == "up":
        return door.answer(conn, topic.client, payload, now_ns)
    if not isinstance(topic, Upward):
        return NOTHING
    row = known(conn, topic.device)
    return NOTHING if row is None else _from_device(_Sender(conn, row, now_ns), topic.channel, payload)


def _from_device(sender: _Sender, channel: str, payload: bytes) -> Effects:
    """All of the message, or (with the reason noted) nothing of it."""
    try:
        with sender.conn.begin_nested():
            return _on_channel(sender, channel, payload)
    except WireError as error:
        sender.refuse(f"{channel}: {error}")
        return NOTHING


def _on_channel(sender: _Sender, channel: str, payload: bytes) -> Effects:
    match channel:
        case "status":
            return _status(sender, payload)
        case _:
            return NOTHING  # federated traffic belongs to the aggregator


def _status(sender: _Sender, payload: bytes) -> Effects:
    if not payload:
        return NOTHING  # a cleared retained status says nothing
    status = decode(payload, Status)
    check_status(status)
    row = sender.row
    if status.online:
        clones.notice(sender.conn, row, Session(status.session, status.boot), sender.now_ns)
    before = presence.Presence(row.online, row.boot, row.seen_ns)
    after = presence.on_status(before, online=status.online, boot=status.boot, now_ns=sender.now_ns)
    if after == before:
        return NOTHING
    if after.online:
        history.back(sender.conn, row, sender.now_ns)
    gone_ns = None if after.online else (row.gone_ns or sender.now_ns)
    sender.change(online=after.online, boot=max(row.boot, status.boot), seen_ns=after.seen_ns, gone_ns=gone_ns)
    return wake(Wake.ROLLOUTS)
