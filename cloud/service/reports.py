"""Reports of devices, taken by the batch: a handful of statements however many there are.

A report is the whole state of a device; `seq` tells new from old. What is not above the mark is receipted again, with
the mark, and changes nothing. What is refused changes nothing but the device's `last_refusal`. How executions ended
goes into their rollouts; a success counts only for what the device really runs, and only with golden outputs.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, delete, not_, null, select, true

from cloud.core.plausible import check_reported
from cloud.core.rollout import ACTIVE
from cloud.core.rollout.members import Status
from cloud.many import among, entering, updating
from cloud.service import director, history
from cloud.service.effects import NOTHING, Effects, Publish, Wake, wake
from cloud.service.rollouts import outcomes
from cloud.service.rollouts.plans import rollout_row
from cloud.service.senders import Sender, heard, store_refusals
from cloud.tables import devices, members, slots
from wire.codec import decode, encode
from wire.errors import MalformedError, WireError
from wire.messages import Outcome, Receipt, Reported, SlotReport
from wire.topics import Topics

MAX_AGENT = 64
MAX_SCHEMA = 2**31 - 1

Ended = tuple[str, str]
"""An execution and its device."""

_ACCEPTED = ("reported_sequence", "reported_digest")
_REPORT = ("reported", "reported_seq", *_ACCEPTED, "agent", "speaks", "reported_ns", "seen_ns")
_TAKE = updating(devices, ("name",), _REPORT, online=true(), gone_ns=null())
_SLOT_KEYS = ("device", "slot")
_ENTER_SLOT = entering(slots, _SLOT_KEYS, [one.name for one in slots.c if one.name not in _SLOT_KEYS])
_DROP_SLOTS = delete(slots).where(among(slots.c.device, "those"), not_(among(slots.c.slot, "kept")))
_AFTER_SUCCESS = (Outcome.SUCCEEDED, Outcome.ROLLED_BACK, Outcome.UNABLE_TO_ROLL_BACK)
_ASKED_FOR = select(members).where(among(members.c.execution, "names"))


@dataclass(slots=True)
class _Sender(Sender):
    """A device of this batch, and what its reports have changed so far."""

    mark: int
    newest: Reported | None = None
    payload: bytes = b""
    receipt: bool = False
    ended: dict[str, SlotReport] = field(default_factory=dict)


def take(conn: Connection, batch: Sequence[tuple[str, bytes]], now_ns: int, topics: Topics) -> Effects:
    """Take reports, (device, payload) in order of arrival. Never raises on what a device sent."""
    senders = {name: _Sender(row, row.reported_seq) for name, row in heard(conn, {name for name, _ in batch}).items()}
    read = [(senders[name], payload, _read(senders[name], payload)) for name, payload in batch if name in senders]
    known = _members(conn, [one for _, _, one in read if one is not None])
    for sender, payload, reported in read:
        if reported is not None:
            _one(sender, payload, reported, known)
    effects = _enter(conn, senders, known, now_ns)
    _store_slots(conn, {name: sender.newest for name, sender in senders.items() if sender.newest is not None})
    _store_devices(conn, senders, now_ns)
    for sender in senders.values():
        _back(conn, sender, now_ns)
    receipts = (
        Publish(topics.dn(name, "receipt"), encode(Receipt(channel="reported", seq=sender.mark)))
        for name, sender in senders.items()
        if sender.receipt
    )
    return Effects(tuple(receipts)) + effects + _news(conn, senders.values())


def _news(conn: Connection, senders: Iterable[_Sender]) -> Effects:
    """Who has accepted another assignment may be ahead of us, or wait for what he has not got."""
    newest = ((one.row, one.newest) for one in senders)
    moved = [row.name for row, told in newest if told is not None and _moved(row, told)]
    if not moved:
        return NOTHING
    return wake(Wake.AHEAD if director.ahead(conn, moved) else Wake.LOOK)


def _moved(row: Row[Any], told: Reported) -> bool:
    return (told.sequence, told.digest) != (row.reported_sequence, row.reported_digest)


@dataclass(frozen=True, slots=True)
class _Known:
    """Members by execution and device, and their rollouts."""

    members: Mapping[Ended, Row[Any]]
    rollouts: Mapping[str, Row[Any]]


def _read(sender: _Sender, payload: bytes) -> Reported | None:
    try:
        reported = decode(payload, Reported)
        check_reported(reported)
    except WireError as error:
        sender.refuse("reported", error)
        return None
    return reported


def _members(conn: Connection, reports: Iterable[Reported]) -> _Known:
    """The members that the reports' executions belong to."""
    told = {slot.execution for one in reports for slot in (*one.finished, *one.slots) if slot.outcome is not None}
    asked_for = sorted(told - {""})
    rows = conn.execute(_ASKED_FOR, {"names": asked_for}).all() if asked_for else ()
    found = {name: rollout_row(conn, name) for name in sorted({row.rollout for row in rows})}
    return _Known({(row.execution, row.device): row for row in rows}, found)


def _one(sender: _Sender, payload: bytes, reported: Reported, known: _Known) -> None:
    """All of the report, or (with the reason noted) nothing of it."""
    if reported.seq < sender.mark:
        sender.refuse("reported", f"stale report: sequence {reported.seq}, but {sender.mark} was taken already")
    if reported.seq <= sender.mark:
        sender.receipt = True
        return
    try:
        ended = {one.execution: one for one in (*reported.finished, *reported.slots) if _tells(sender, one, known)}
    except MalformedError as error:
        sender.refuse("reported", error)
        return
    sender.ended |= ended
    sender.mark, sender.newest, sender.payload, sender.receipt = reported.seq, reported, payload, True


def _tells(sender: _Sender, slot: SlotReport, known: _Known) -> bool:
    """Does it say how an execution of ours ended? Raises MalformedError when that cannot be true."""
    member = known.members.get((slot.execution, sender.row.name))
    if slot.outcome is None or member is None:
        return False
    if slot.outcome is not Outcome.SUCCEEDED or member.outcome == slot.outcome:
        return True
    rollout, runs = known.rollouts[member.rollout], slot.current and (slot.current.model, slot.current.version)
    claim = f"claims success of {rollout.model} version {rollout.version}"
    if runs != (rollout.model, rollout.version):
        raise MalformedError(f"{claim} but runs {runs or 'nothing'}")
    if slot.golden is None or slot.golden.matched < 1:
        raise MalformedError(f"{claim} without golden outputs")
    return True


def _enter(conn: Connection, senders: Mapping[str, _Sender], known: _Known, now_ns: int) -> Effects:
    """How executions ended, rollout by rollout."""
    ended: dict[str, list[tuple[Row[Any], dict[str, Any]]]] = defaultdict(list)
    for name, sender in senders.items():
        for execution, slot in sender.ended.items():
            member = known.members[execution, name]
            again = member.status == Status.WAITING and slot.outcome is not Outcome.SUCCEEDED
            if member.outcome != _outcome(member, slot) and not again:  # told again while it waits for its next attempt
                ended[member.rollout].append((member, _told(member, slot)))
    for rollout, changes in ended.items():
        outcomes.settle(conn, known.rollouts[rollout], changes, now_ns)
    if not ended:
        return NOTHING
    over = any(known.rollouts[rollout].state not in ACTIVE for rollout in ended)  # else its objects are needed anyway
    return wake(Wake.ROLLOUTS, Wake.BLOBS) if over else wake(Wake.ROLLOUTS)


def _outcome(member: Row[Any], slot: SlotReport) -> Outcome | None:
    """A success that was told is not unsaid: where somebody else's orders undid it and the repair failed, the device
    went back."""
    if member.outcome in (Outcome.SUCCEEDED, Outcome.ROLLED_BACK) and slot.outcome not in _AFTER_SUCCESS:
        return Outcome.ROLLED_BACK
    return slot.outcome


def _told(member: Row[Any], slot: SlotReport) -> dict[str, Any]:
    golden = slot.golden
    return {
        "outcome": _outcome(member, slot),
        "reason": slot.reason,
        "golden_matched": golden.matched if golden else 0,
        "golden_total": golden.total if golden else 0,
        "acknowledged": member.acknowledged and slot.outcome is not Outcome.SUCCEEDED,
        "figures": {**member.figures, "now": outcomes.figures_of(slot)},
    }


def _store_slots(conn: Connection, reports: Mapping[str, Reported]) -> None:
    """A slot that the newest report does not name is no more."""
    told = {(name, slot.slot): _slot(name, slot) for name, reported in reports.items() for slot in reported.slots}
    _ENTER_SLOT.run(conn, list(told.values()))
    named: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, reported in reports.items():
        named[tuple(sorted(slot.slot for slot in reported.slots))].append(name)
    for kept, those in named.items():
        conn.execute(_DROP_SLOTS, {"those": those, "kept": kept})


def _slot(device: str, slot: SlotReport) -> dict[str, Any]:
    current, golden = slot.current, slot.golden
    return {
        "device": device,
        "slot": slot.slot,
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


def _store_devices(conn: Connection, senders: Mapping[str, _Sender], now_ns: int) -> None:
    taken = [
        {
            "name": name,
            "reported": sender.payload,
            "reported_seq": sender.mark,
            "reported_sequence": sender.newest.sequence,
            "reported_digest": sender.newest.digest,
            "agent": sender.newest.agent[:MAX_AGENT],
            "speaks": min(max(sender.newest.speaks[1], 0), MAX_SCHEMA),
            "reported_ns": now_ns,
            "seen_ns": now_ns,
        }
        for name, sender in senders.items()
        if sender.newest is not None
    ]
    _TAKE.run(conn, taken)
    store_refusals(conn, senders.values(), now_ns)


def _back(conn: Connection, sender: _Sender, now_ns: int) -> None:
    """What is worth keeping of its coming back."""
    if sender.newest is None:
        return
    history.back(conn, sender.row, now_ns)
    before, now = sender.row.agent, sender.newest.agent[:MAX_AGENT]
    if before and before != now:
        history.note(conn, sender.row.name, history.AGENT, now_ns, old=before, new=now)
