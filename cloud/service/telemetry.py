"""What devices measure, taken by the batch: every message lands once in `telemetry_points`, whatever is repeated,
reordered or killed, and `stats` follow the newest.

Each device has a high-water mark: all it ever sent up to there is durable, or was dropped by the device itself. A
message at or below the mark is a repetition and changes nothing. One whose predecessor is above the mark came early: a
broker dropped that one, or another hub is about to take it. It is kept above the gap, and whoever closes the gap takes
it. One receipt per device and batch tells the mark; should it be lost, what comes again asks for it again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from sqlalchemy import Connection, bindparam, null, select, true

from cloud.core.plausible import MAX_SEQ, check_telemetry
from cloud.many import among, entering, updating
from cloud.service import history, releases
from cloud.service.effects import Effects, Publish
from cloud.service.senders import Sender, heard, store_refusals
from cloud.tables import devices, stats, telemetry_points, versions
from wire.codec import decode, encode
from wire.errors import WireError
from wire.messages import ModelStats, Receipt, Telemetry
from wire.topics import Topics

MAX_AHEAD = 64
"""Messages of a device that are kept above a gap; what more there is comes again."""
Which = tuple[str, int, str]
"""A variant: model, version and name."""
_COUNTERS = ("predictions", "feedback", "correct", "confidence_sum", "latency_us")

# Built once: a fleet at rest is little else than these.
_ENTER_POINT = entering(telemetry_points, ("device", "hardware_ns", "seq"), ("at_ns", "received_ns", "content"))
_ENTER_COUNTERS = entering(stats, ("device", "model", "version", "variant"), _COUNTERS)
_MARK = ("telemetry_seq", "telemetry_ns", "seen_ns")
_AHEAD = updating(devices, ("name",), ("telemetry_ahead",))
_TAKE = updating(devices, ("name",), ("telemetry", *_MARK), gone_ns=null(), online=true())
_PASS = updating(devices, ("name",), _MARK, gone_ns=null(), online=true())
_RELEASE = select(versions.c.release).where(
    versions.c.model == bindparam("model"), versions.c.version == bindparam("version")
)

_KEPT = (
    select(telemetry_points.c.device, telemetry_points.c.seq, telemetry_points.c.content)
    .join(devices, devices.c.name == telemetry_points.c.device)
    .where(among(devices.c.name, "names"))
    .where(telemetry_points.c.hardware_ns == devices.c.enrolled_ns, telemetry_points.c.seq > devices.c.telemetry_seq)
)


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
    ahead: dict[int, tuple[Telemetry, bytes]] = field(default_factory=dict)
    """Kept above a gap, by number; in the database by the end of the batch, if they are not there yet."""
    points: dict[int, dict[str, Any]] = field(default_factory=dict)
    counters: dict[Which, ModelStats] = field(default_factory=dict)


def take(conn: Connection, batch: Sequence[tuple[str, bytes]], now_ns: int, topics: Topics) -> Effects:
    """Take messages, (device, payload) in order of arrival. Never raises on what a device sent."""
    rows = heard(conn, (device for device, _ in batch))
    senders = {name: _Sender(row, row.telemetry_seq) for name, row in rows.items()}
    _recall(conn, senders)
    for device, payload in batch:
        if device in senders:
            _one(senders[device], payload, now_ns)
    _store(conn, senders, now_ns)
    receipts = (
        Publish(topics.dn(name, "receipt"), encode(Receipt(channel="telemetry", seq=sender.mark)))
        for name, sender in senders.items()
        if sender.receipt
    )
    return Effects(tuple(receipts))


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
    if telemetry.after > sender.mark:
        is_new = _keep(sender, telemetry, payload)
    elif is_new := _is_next(sender, telemetry.seq, telemetry.after):
        _count(sender, telemetry, payload)
        _close(sender)
    if is_new:
        sender.points[telemetry.seq] = {
            "device": sender.row.name,
            "hardware_ns": sender.row.enrolled_ns,
            "seq": telemetry.seq,
            "at_ns": telemetry.at_ns,
            "received_ns": now_ns,
            "content": payload,
        }


def _keep(sender: _Sender, telemetry: Telemetry, payload: bytes) -> bool:
    """Above the gap, if it is new and there is room."""
    seq = telemetry.seq
    if seq <= sender.mark or seq in sender.ahead or len(sender.ahead) >= MAX_AHEAD:
        return False
    sender.ahead[seq] = telemetry, payload
    return True


def _count(sender: _Sender, telemetry: Telemetry, payload: bytes) -> None:
    """The newest that the device has measured, so far."""
    sender.newest = payload
    sender.counters |= {(one.model, one.version, one.variant): one for one in telemetry.stats}


def _close(sender: _Sender) -> None:
    """The mark has moved: is what is kept above the gap next now?"""
    for seq in sorted(sender.ahead):
        telemetry, payload = sender.ahead[seq]
        if telemetry.after > sender.mark:
            return
        del sender.ahead[seq]
        if _is_next(sender, seq, telemetry.after):
            _count(sender, telemetry, payload)


def _recall(conn: Connection, senders: dict[str, _Sender]) -> None:
    """What is kept above the gaps of these devices."""
    names = sorted(name for name, one in senders.items() if one.row.telemetry_ahead > one.mark)
    for row in conn.execute(_KEPT, {"names": names}) if names else ():
        senders[row.device].ahead[row.seq] = decode(row.content, Telemetry), row.content


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
    if _is_next(sender, number.seq, number.after):
        _close(sender)


def _store(conn: Connection, senders: dict[str, _Sender], now_ns: int) -> None:
    _ENTER_POINT.run(conn, [point for sender in senders.values() for point in sender.points.values()])
    _store_counters(conn, senders)
    tops = {name: max(sender.ahead, default=0) for name, sender in senders.items()}
    gaps = [(name, top) for name, top in tops.items() if top != senders[name].row.telemetry_ahead]
    _AHEAD.run(conn, [{"name": name, "telemetry_ahead": top} for name, top in gaps])
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
    release = conn.execute(_RELEASE, {"model": model, "version": version}).scalar_one_or_none()
    return () if release is None else tuple(one.name for one in releases.read(release).variants)
