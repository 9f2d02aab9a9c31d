"""What devices say, taken in batches: one transaction, then receipts, then MQTT acknowledgements.

Reports are state. `seq` per device and channel tells new from old: an equal one is a repetition (its receipt was lost)
and is receipted again, a lower one is stale. What is refused changes nothing but the device's `last_refusal`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update
from sqlalchemy.dialects.sqlite import insert

from cloud.core import presence
from cloud.core.clones import Session
from cloud.core.plausible import check_reported, check_status, check_telemetry
from cloud.service import clones
from cloud.service.effects import NOTHING, Effects, Publish, Wake, wake
from cloud.service.enrolment import Door
from cloud.tables import ENROLLED, devices, members, rollouts, slots, stats, versions
from wire.codec import MAX_RELEASE_BYTES, decode, encode
from wire.errors import MalformedError, WireError
from wire.messages import ModelStats, Outcome, Receipt, Reported, SlotReport, Status, Telemetry
from wire.release import Release
from wire.topics import Enrolment, Topics, Upward

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
    topics: Topics

    def change(self, **values: Any) -> None:
        """Update the device's row."""
        self.conn.execute(update(devices).where(devices.c.name == self.row.name).values(values))

    def receipt(self, channel: str, seq: int) -> Effects:
        """Tell the device that everything up to `seq` is durable here (once the transaction is)."""
        topic = self.topics.dn(self.row.name, "receipt")
        return Effects((Publish(topic, encode(Receipt(channel=channel, seq=seq))),))


def apply(conn: Connection, batch: Sequence[Received], now_ns: int, door: Door) -> Effects:
    """Take a batch. Never raises on what a device sent."""
    effects = NOTHING
    for message in batch:
        effects += _one(conn, message, now_ns, door)
    return effects


def _one(conn: Connection, message: Received, now_ns: int, door: Door) -> Effects:
    try:
        parsed = door.topics.parse(message.topic)
    except WireError:
        return NOTHING  # not of this contract: nobody to blame it on
    if isinstance(parsed, Enrolment) and parsed.direction == "up":
        return door.answer(conn, parsed.client, message.payload, now_ns)
    if not isinstance(parsed, Upward):
        return NOTHING
    row = conn.execute(select(devices).where(devices.c.name == parsed.device, ENROLLED)).one_or_none()
    if row is None:
        return NOTHING  # the broker lets only enrolled devices in; one that was revoked meanwhile is not heard
    return _from_device(_Sender(conn, row, now_ns, door.topics), parsed.channel, message.payload)


def _from_device(sender: _Sender, channel: str, payload: bytes) -> Effects:
    """All of the message, or (with the reason noted) nothing of it."""
    try:
        with sender.conn.begin_nested():
            return _on_channel(sender, channel, payload)
    except WireError as error:
        count = sender.row.refusal_count + 1
        reason = f"{channel}: {error}"[:MAX_REASON]
        sender.change(last_refusal=reason, last_refusal_ns=sender.now_ns, refusal_count=count)
        return NOTHING


def _on_channel(sender: _Sender, channel: str, payload: bytes) -> Effects:
    match channel:
        case "status":
            return _status(sender, payload)
        case "reported":
            return _reported(sender, decode(payload, Reported), payload)
        case "telemetry":
            return _telemetry(sender, decode(payload, Telemetry), payload)
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
    sender.change(online=after.online, boot=max(row.boot, status.boot), seen_ns=after.seen_ns)
    return wake(Wake.ROLLOUTS)


def _is_new(channel: str, seq: int, mark: int) -> bool:
    if seq < mark:
        raise MalformedError(f"stale {channel}: sequence {seq}, but {mark} was taken already")
    return seq > mark


def _reported(sender: _Sender, reported: Reported, payload: bytes) -> Effects:
    check_reported(reported)
    receipt = sender.receipt("reported", reported.seq)
    if not _is_new("report", reported.seq, sender.row.reported_seq):
        return receipt
    effects = NOTHING
    for slot in reported.slots:
        effects += _member(sender, slot)
        _slot(sender, slot)
    _forget_other_slots(sender, reported.slots)
    sender.change(
        reported=payload,
        reported_seq=reported.seq,
        reported_sequence=reported.sequence,
        reported_ns=sender.now_ns,
        online=True,
        seen_ns=sender.now_ns,
    )
    return receipt + effects


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
    row = insert(slots).values(device=sender.row.name, slot=slot.slot, **values)
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
    query = (
        select(members.c.rollout, members.c.outcome, members.c.acknowledged, rollouts.c.model, rollouts.c.version)
        .join(rollouts, rollouts.c.id == members.c.rollout)
        .where(members.c.execution == slot.execution, members.c.device == sender.row.name)
    )
    member = sender.conn.execute(query).one_or_none()
    if member is None or member.outcome == slot.outcome:
        return NOTHING
    runs = slot.current and (slot.current.model, slot.current.version)
    if slot.outcome is Outcome.SUCCEEDED and runs != (member.model, member.version):
        raise MalformedError(f"claims success of {member.model} version {member.version} but runs {runs or 'nothing'}")
    golden = slot.golden
    if slot.outcome is Outcome.SUCCEEDED and (golden is None or golden.matched < 1):
        raise MalformedError(f"claims success of {member.model} version {member.version} without golden outputs")
    here = (members.c.rollout == member.rollout) & (members.c.device == sender.row.name)
    sender.conn.execute(
        update(members)
        .where(here)
        .values(
            outcome=slot.outcome,
            reason=slot.reason,
            golden_matched=golden.matched if golden else 0,
            golden_total=golden.total if golden else 0,
            acknowledged=member.acknowledged and slot.outcome is not Outcome.SUCCEEDED,
            finished_ns=sender.now_ns,
        )
    )
    return wake(Wake.ROLLOUTS, Wake.BLOBS)


def _telemetry(sender: _Sender, telemetry: Telemetry, payload: bytes) -> Effects:
    check_telemetry(telemetry)
    receipt = sender.receipt("telemetry", telemetry.seq)
    if not _is_new("telemetry", telemetry.seq, sender.row.telemetry_seq):
        return receipt
    for one in telemetry.stats:
        if _is_ours(sender.conn, one):
            _count(sender, one)
    sender.change(
        telemetry=payload,
        telemetry_seq=telemetry.seq,
        telemetry_ns=sender.now_ns,
        online=True,
        seen_ns=sender.now_ns,
    )
    return receipt


def _is_ours(conn: Connection, one: ModelStats) -> bool:
    """Is it a variant of a version in the registry? Counters of anything else would pile up for nobody."""
    here = (versions.c.model == one.model) & (versions.c.version == one.version)
    release = conn.execute(select(versions.c.release).where(here)).scalar_one_or_none()
    return release is not None and decode(release, Release, limit=MAX_RELEASE_BYTES).variant(one.variant) is not None


def _count(sender: _Sender, one: ModelStats) -> None:
    values = {
        "predictions": one.predictions,
        "feedback": one.feedback,
        "correct": one.correct,
        "confidence_sum": one.confidence_sum,
        "latency_us": {str(bucket): count for bucket, count in sorted(one.latency_us.items())},
    }
    keys = {"device": sender.row.name, "model": one.model, "version": one.version, "variant": one.variant}
    row = insert(stats).values(**keys, **values)
    sender.conn.execute(row.on_conflict_do_update(index_elements=list(keys), set_=values))
