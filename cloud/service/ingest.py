"""What devices say, taken in batches: one transaction, then receipts, then MQTT acknowledgements.

Reports are state. `seq` tells new from old: what is not above the mark is receipted again, with the mark, and changes
nothing. What is refused changes nothing but the device's `last_refusal`. Telemetry has rules and a module of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from cloud.core import presence
from cloud.core.clones import Session
from cloud.core.plausible import check_reported, check_status
from cloud.core.rollout.members import Status as MemberStatus
from cloud.service import clones, history, telemetry
from cloud.service.effects import NOTHING, Effects, Publish, Wake, wake
from cloud.service.enrolment import Door
from cloud.service.rollouts import outcomes
from cloud.service.rollouts.plans import rollout_row
from cloud.service.senders import heard
from cloud.tables import devices, members, slots
from cloud.upsert import upsert
from wire.codec import decode, encode
from wire.errors import MalformedError, WireError
from wire.messages import Outcome, Receipt, Reported, SlotReport, Status
from wire.topics import Enrolment, Parsed, Topics, Upward

MAX_REASON = 500
MAX_AGENT = 64
MAX_SCHEMA = 2**31 - 1


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
    topics: Topics

    def change(self, **values: Any) -> None:
        """Update the device's row."""
        self.conn.execute(update(devices).where(devices.c.name == self.row.name).values(values))

    def refuse(self, reason: str) -> None:
        """Note why a message was not taken."""
        count = self.row.refusal_count + 1
        self.change(
            last_refusal=reason[:MAX_REASON].replace("\0", "?"), last_refusal_ns=self.now_ns, refusal_count=count
        )

    def receipt(self, channel: str, seq: int) -> Effects:
        """Tell the device that everything up to `seq` is durable here (once the transaction is)."""
        topic = self.topics.dn(self.row.name, "receipt")
        return Effects((Publish(topic, encode(Receipt(channel=channel, seq=seq))),))


def apply(conn: Connection, batch: Sequence[Received], now_ns: int, door: Door) -> Effects:
    """Take a batch in order, runs of telemetry together. Never raises on what a device sent."""
    effects = NOTHING
    parsed = [(_parse(door.topics, message.topic), message.payload) for message in batch]
    for together, run in groupby(parsed, key=lambda one: _is_telemetry(one[0])):
        if together:
            told = [(topic.device, payload) for topic, payload in run if isinstance(topic, Upward)]
            effects += telemetry.take(conn, told, now_ns, door.topics)
        else:
            for topic, payload in run:
                effects += _one(conn, topic, payload, now_ns, door)
    return effects


def _parse(topics: Topics, topic: str) -> Parsed | None:
    """None: it is not of this contract, and there is nobody to blame it on."""
    try:
        return topics.parse(topic)
    except WireError:
        return None


def _is_telemetry(topic: Parsed | None) -> bool:
    return isinstance(topic, Upward) and topic.channel == "telemetry"


def _one(conn: Connection, topic: Parsed | None, payload: bytes, now_ns: int, door: Door) -> Effects:
    if isinstance(topic, Enrolment) and topic.direction == "up":
        return door.answer(conn, topic.client, payload, now_ns)
    if not isinstance(topic, Upward):
        return NOTHING
    row = heard(conn, [topic.device]).get(topic.device)
    return NOTHING if row is None else _from_device(_Sender(conn, row, now_ns, door.topics), topic.channel, payload)


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
        case "reported":
            return _reported(sender, decode(payload, Reported), payload)
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


def _reported(sender: _Sender, reported: Reported, payload: bytes) -> Effects:
    check_reported(reported)
    mark = sender.row.reported_seq
    if reported.seq < mark:
        sender.refuse(f"stale report: sequence {reported.seq}, but {mark} was taken already")
    if reported.seq <= mark:
        return sender.receipt("reported", mark)
    effects = sender.receipt("reported", reported.seq)
    for slot in (*reported.finished, *reported.slots):
        effects += _member(sender, slot)
    for slot in reported.slots:
        _slot(sender, slot)
    _forget_other_slots(sender, reported.slots)
    _back(sender, reported)
    sender.change(
        reported=payload,
        reported_seq=reported.seq,
        reported_sequence=reported.sequence,
        reported_ns=sender.now_ns,
        agent=reported.agent[:MAX_AGENT],
        speaks=min(max(reported.speaks[1], 0), MAX_SCHEMA),
        online=True,
        gone_ns=None,
        seen_ns=sender.now_ns,
    )
    return effects


def _back(sender: _Sender, reported: Reported) -> None:
    """What is worth keeping of its coming back."""
    history.back(sender.conn, sender.row, sender.now_ns)
    before, now = sender.row.agent, reported.agent[:MAX_AGENT]
    if before and before != now:
        history.note(sender.conn, sender.row.name, history.AGENT, sender.now_ns, old=before, new=now)


def _slot(sender: _Sender, slot: SlotReport) -> None:
    current, golden = slot.current, slot.golden
    values = {
        "phase": slot.phase,
        "model": current.model if current else None,
        "version": current.version if current else None,
        "variant": current.variant if current else None,
        "sha256": current.sha256 if current else None,
        "execution": slot.execution[:64],
        "outcome": slot.outcome,
        "reason": slot.reason,
        "golden_matched": golden.matched if golden else None,
        "golden_total": golden.total if golden else None,
        "golden_max_error": golden.max_error if golden else None,
    }
    row = upsert(slots).values(device=sender.row.name, slot=slot.slot, **values)
    sender.conn.execute(row.on_conflict_do_update(index_elements=["device", "slot"], set_=values))


def _forget_other_slots(sender: _Sender, told: Sequence[SlotReport]) -> None:
    """A report is the whole state: a slot that it does not name is no more."""
    gone = (slots.c.device == sender.row.name) & slots.c.slot.not_in([slot.slot for slot in told])
    sender.conn.execute(delete(slots).where(gone))


def _member(sender: _Sender, slot: SlotReport) -> Effects:
    """Enter the outcome of an execution into its rollout.

    Success counts only for what the device really runs, and only with golden outputs that it reproduced.
    """
    if slot.outcome is None or not slot.execution:
        return NOTHING
    query = select(members).where(members.c.execution == slot.execution, members.c.device == sender.row.name)
    member = sender.conn.execute(query).one_or_none()
    if member is None or member.outcome == slot.outcome:
        return NOTHING
    rollout = rollout_row(sender.conn, member.rollout)
    runs = slot.current and (slot.current.model, slot.current.version)
    if slot.outcome is Outcome.SUCCEEDED and runs != (rollout.model, rollout.version):
        raise MalformedError(
            f"claims success of {rollout.model} version {rollout.version} but runs {runs or 'nothing'}"
        )
    golden = slot.golden
    if slot.outcome is Outcome.SUCCEEDED and (golden is None or golden.matched < 1):
        raise MalformedError(f"claims success of {rollout.model} version {rollout.version} without golden outputs")
    if member.status == MemberStatus.WAITING and slot.outcome is not Outcome.SUCCEEDED:
        return NOTHING  # told again while it waits for its next attempt
    told = {
        "outcome": slot.outcome,
        "reason": slot.reason,
        "golden_matched": golden.matched if golden else 0,
        "golden_total": golden.total if golden else 0,
        "acknowledged": member.acknowledged and slot.outcome is not Outcome.SUCCEEDED,
        "figures": {**member.figures, "now": outcomes.figures_of(slot)},
    }
    outcomes.settle(sender.conn, rollout, [(member, told)], sender.now_ns)
    return wake(Wake.ROLLOUTS, Wake.BLOBS)
