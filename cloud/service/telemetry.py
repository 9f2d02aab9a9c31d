"""What devices measure, taken by the batch: every message lands once in `telemetry_points`, whatever is repeated,
reordered or killed, and `stats` follow the newest.

Each device has a high-water mark: all it ever sent up to there is durable, or was dropped by the device itself. A
message at or below the mark is a repetition; one whose predecessor is above it came too early and is sent again. Both
change nothing. One receipt per device and batch tells the mark; should it be lost, what comes again asks for it again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from sqlalchemy import Connection, null, select, true

from cloud.core.plausible import MAX_SEQ, check_telemetry
from cloud.many import entering, updating
from cloud.service import history
from cloud.service.effects import Effects, Publish
from cloud.service.senders import Sender, heard, store_refusals
from cloud.tables import devices, stats, telemetry_points, versions
from wire.codec import MAX_RELEASE_BYTES, decode, encode
from wire.errors import WireError
from wire.messages import ModelStats, Receipt, Telemetry
from wire.release import Release
from wire.topics import Topics

Which = tuple[str, int, str]
"""A variant: model, version and name."""
_COUNTERS = ("predictions", "feedback", "correct", "confidence_sum", "latency_us")

# Built once: a fleet at rest is little else than these.
_ENTER_POINT = entering(telemetry_points, ("device", "hardware_ns", "seq"), ("at_ns", "received_ns", "content"))
_ENTER_COUNTERS = entering(stats, ("device", "model", "version", "variant"), _COUNTERS)
_MARK = ("telemetry_seq", "telemetry_ns", "seen_ns")
_TAKE = updating(devices, ("name",), ("telemetry", *_MARK), gone_ns=null(), online=true())
_PASS = updating(devices, ("name",), _MARK, gone_ns=null(), online=true())


class _Number(msgspec.Struct, frozen=True):
    """What can be read of a message that is otherwise unacceptable."""

    seq: Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)]
    after: int = 0


@dataclass(slots=True)
class _Sender(Sender):
    """A device of this batch, and what its messages have changed so far."""

    mark: int
    newest: bytes | None = None
    receipt: bool = False
    early: list[bytes] = field(default_factory=list)
    points: list[dict[str, Any]] = field(default_factory=list)
    counters: dict[Which, ModelStats] = field(default_factory=dict)


def take(conn: Connection, batch: Sequence[tuple[str, bytes]], now_ns: int, topics: Topics) -> Effects:
    """Take messages, (device, payload) in order of arrival. Never raises on what a device sent."""
    rows = heard(conn, (device for device, _ in batch))
    senders = {name: _Sender(row, row.telemetry_seq) for name, row in rows.items()}
    for device, payload in batch:
        if device in senders:
            _one(senders[device], payload, now_ns)
    _store(conn, senders, now_ns)
    receipts = (
        Publish(topics.dn(name, "receipt"), encode(Receipt(channel="telemetry", seq=sender.mark)))
        for name, sender in senders.items()
        if sender.receipt
    )
    early = ((topics.up(name, "telemetry"), payload) for name, sender in senders.items() for payload in sender.early)
    return Effects(tuple(receipts), early=frozenset(early))


def counters_of(one: ModelStats) -> dict[str, Any]:
    """The counters of one variant as columns."""
    return {
        "predictions": one.predictions,
        "feedback": one.feedback,
        "correct": one.correct,
        "confidence_sum": one.confidence_sum,
        "latency_us": dict(sorted(one.latency_us.items())),
    }


def known_variants(conn: Connection, told: Iterable[Which]) -> set[Which]:
    """Those that are in the registry."""
    of_versions = {(model, version) for model, version, _ in told}
    return {(model, version, name) for model, version in of_versions for name in _variants(conn, model, version)}


def _one(sender: _Sender, payload: bytes, now_ns: int) -> None:
    try:
        telemetry = decode(payload, Telemetry)
        check_telemetry(telemetry)
    except WireError as error:
        sender.refuse("telemetry", error)
        _passes(sender, payload)
        return
    if not _is_next(sender, telemetry.seq, telemetry.after):
        if telemetry.after > sender.mark:
            sender.early.append(payload)
        return
    sender.newest = payload
    sender.points.append(
        {
            "device": sender.row.name,
            "hardware_ns": sender.row.enrolled_ns,
            "seq": telemetry.seq,
            "at_ns": telemetry.at_ns,
            "received_ns": now_ns,
            "content": payload,
        }
    )
    sender.counters |= {(one.model, one.version, one.variant): one for one in telemetry.stats}


def _is_next(sender: _Sender, seq: int, after: int) -> bool:
    """Is it the message that the mark waits for? Then it is at the mark now."""
    if after > sender.mark:
        return False
    sender.receipt = True
    new = seq > sender.mark
    sender.mark = max(sender.mark, seq)
    return new


def _passes(sender: _Sender, payload: bytes) -> None:
    """A refused message is not worth sending again, and must not hold up those behind it."""
    try:
        number = msgspec.json.decode(payload, type=_Number)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    _is_next(sender, number.seq, number.after)


def _store(conn: Connection, senders: dict[str, _Sender], now_ns: int) -> None:
    _ENTER_POINT.run(conn, [point for sender in senders.values() for point in sender.points])
    _store_counters(conn, senders)
    moved = {name: sender for name, sender in senders.items() if sender.mark > sender.row.telemetry_seq}
    for sender in moved.values():
        history.back(conn, sender.row, now_ns)
    marks = [
        {"name": name, "telemetry": sender.newest, "telemetry_seq": sender.mark}
        | {"telemetry_ns": now_ns, "seen_ns": now_ns}
        for name, sender in moved.items()
    ]
    _TAKE.run(conn, [one for one in marks if one["telemetry"] is not None])
    _PASS.run(conn, [one for one in marks if one["telemetry"] is None])  # all were refused
    store_refusals(conn, senders.values(), now_ns)


def _store_counters(conn: Connection, senders: dict[str, _Sender]) -> None:
    """Only of variants in the registry: counters of anything else would pile up for nobody."""
    known = known_variants(conn, (key for sender in senders.values() for key in sender.counters))
    rows = [
        {"device": name, "model": one.model, "version": one.version, "variant": one.variant, **counters_of(one)}
        for name, sender in senders.items()
        for key, one in sender.counters.items()
        if key in known
    ]
    _ENTER_COUNTERS.run(conn, rows)


def _variants(conn: Connection, model: str, version: int) -> tuple[str, ...]:
    here = (versions.c.model == model) & (versions.c.version == version)
    release = conn.execute(select(versions.c.release).where(here)).scalar_one_or_none()
    if release is None:
        return ()
    return tuple(one.name for one in decode(release, Release, limit=MAX_RELEASE_BYTES).variants)
