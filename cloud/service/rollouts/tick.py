"""Every rollout as far as its facts allow: loads them from counters and indexes, and carries decisions out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, func, select, update

from cloud.core.rollout import Plan, RolloutState, machine
from cloud.core.rollout.machine import SECOND, Candidate, Facts
from cloud.core.rollout.members import Status
from cloud.core.rollout.states import ADVANCING
from cloud.many import among
from cloud.service import audit, deltas, director, restraints, suitability
from cloud.service.director import Seal
from cloud.service.effects import NOTHING, Effects, Wake, wake
from cloud.service.rollouts import ledger, measuring, outcomes
from cloud.service.rollouts.joining import join_late, last_to_join
from cloud.service.rollouts.orders import set_state
from cloud.service.rollouts.plans import UNDER_WAY, plan_of, rollout_row
from cloud.service.rollouts.recalling import recall
from cloud.tables import members, rollouts, slots, versions
from wire.assignment import Execution, SlotAssignment
from wire.ports import Ids
from wire.release import ObjectRef, Variant
from wire.topics import Topics

MAX_DECISIONS = 100
"""Decisions for one rollout in one tick; the next tick goes on."""
NOTED_EVERY_S = 10.0
"""How often a rollout is noted as looked after."""
STOPPED = frozenset({RolloutState.HALTED, RolloutState.ABORTED})
"""What has not begun by then is not to begin. A pause only asks nobody further."""
UNPACKED = -1
OUTAGE_S = 30.0
"""Nobody looked after a rollout for so long: the hub was down or heard nobody, and that is not its devices' fault."""


_OPEN = select(rollouts).where(UNDER_WAY).order_by(rollouts.c.created_ns, rollouts.c.id)
_RUNNING = (
    select(slots.c.device, slots.c.model, slots.c.version)
    .where(slots.c.slot == bindparam("slot"), slots.c.version.is_not(None), among(slots.c.device, "names"))
    .order_by(slots.c.device)
)
_LATE = (
    select(members.c.device)
    .where(members.c.rollout == bindparam("rollout"), members.c.status == Status.IN_FLIGHT)
    .where(members.c.due_ns <= bindparam("now_ns"))
    .order_by(members.c.due_ns)
    .limit(machine.AT_ONCE)
)
_READY = (
    select(members.c.device, members.c.place, members.c.label_group)
    .where(members.c.rollout == bindparam("rollout"), members.c.status == Status.WAITING)
    .where(members.c.wave <= bindparam("wave"), members.c.due_ns <= bindparam("now_ns"))
    .order_by(members.c.wave, members.c.place, members.c.device)
    .limit(2 * machine.AT_ONCE)
)
_THIS = update(rollouts).where(rollouts.c.id == bindparam("rollout"))
_PACKED = _THIS.values(packed=bindparam("upto"))
_JUDGED = _THIS.values(evidence=bindparam("now", type_=rollouts.c.evidence.type))
_TICKED = _THIS.values(ticked_ns=bindparam("now_ns"))
_PARDONED = (
    update(members)
    .where(members.c.rollout == bindparam("in_rollout"), members.c.status == Status.IN_FLIGHT)
    .values(due_ns=members.c.due_ns + bindparam("gap_ns", type_=members.c.due_ns.type))
)
_ANY_OPEN = select(rollouts.c.id).where(UNDER_WAY).limit(1)


@dataclass(frozen=True, slots=True)
class Means:
    """What carrying decisions out needs beside the database."""

    seal: Seal
    ids: Ids
    topics: Topics
    now_ns: int


def tick(conn: Connection, means: Means) -> Effects:
    """Bring every rollout as far as its facts allow."""
    effects = NOTHING
    open_ones = conn.execute(_OPEN).all()
    halted = restraints.halted(conn) if open_ones else ""
    for row in open_ones:
        _pardon_outage(conn, row, means.now_ns)
        if halted or RolloutState(row.state) not in ADVANCING:
            _expire(conn, row, means.now_ns)
            if halted or row.state in STOPPED:
                effects += recall(conn, row, means.seal, means.ids, means.topics, means.now_ns)
        else:
            effects += _advance(conn, row, means)
    return effects


def under_way(conn: Connection) -> bool:
    """Is there a rollout that time alone may move?"""
    return conn.execute(_ANY_OPEN).first() is not None


def facts_of(conn: Connection, row: Row[Any], plan: Plan, now_ns: int, *, full: bool = False) -> Facts:
    """What the machine decides on, without looking at every member. `full`: nobody else can be told now."""
    counts, ended_ns = ledger.waves_of(conn, row)
    unavailable = _unavailable(conn, row) if plan.disruption is not None else {}
    may_tell = not full and row.state == RolloutState.RUNNING and any(wave.waiting for wave in counts[: row.wave + 1])
    return Facts(
        state=RolloutState(row.state),
        wave=row.wave,
        waves=counts,
        ended_ns=ended_ns,
        approved=row.approved,
        overdue=_overdue(conn, row, now_ns) if any(wave.in_flight for wave in counts) else (),
        candidates=_candidates(conn, row, machine.full_groups(plan, unavailable), now_ns) if may_tell else (),
        unavailable=unavailable,
        recent_minute=_asked(row, now_ns - 60 * SECOND),
        recent_second=_asked(row, now_ns - SECOND),
    )


def _advance(conn: Connection, row: Row[Any], means: Means) -> Effects:
    plan = plan_of(row)
    newcomers = join_late(conn, row)
    newcomers |= suitability.reconsider(conn, row, means.now_ns)
    measuring.measure(conn, row, plan, means.now_ns)
    effects, full = NOTHING, False  # one batch a tick; what it led to is judged at once
    for _ in range(MAX_DECISIONS):
        if not _packed(conn, row, newcomers=newcomers):
            effects, full = effects + wake(Wake.DELTAS), True  # which wakes us again
        newcomers = False
        facts = facts_of(conn, row, plan, means.now_ns, full=full)
        _note_evidence(conn, row, plan, facts)
        decisions = machine.evaluate(plan, facts, means.now_ns)
        for decision in decisions:
            effects += _carry_out(conn, row, decision, means)
        full |= any(isinstance(decision, machine.Assign) for decision in decisions)
        row = rollout_row(conn, row.id) if decisions else row
        if not decisions or RolloutState(row.state) not in ADVANCING:
            break
    return effects


def _packed(conn: Connection, row: Row[Any], *, newcomers: bool) -> bool:
    """Are its deltas decided? What its devices run is looked through when a wave begins, or somebody has come."""
    if row.state != RolloutState.RUNNING or (row.packed >= row.wave and not newcomers):
        return True
    decided = not deltas.undecided(conn, row)
    upto = row.wave if decided else UNPACKED
    if upto != row.packed:
        conn.execute(_PACKED, {"rollout": row.id, "upto": upto})
    return decided


def _carry_out(conn: Connection, row: Row[Any], decision: machine.Decision, means: Means) -> Effects:
    now_ns = means.now_ns
    match decision:
        case machine.Assign(names):
            return _assign(conn, row, names, means)
        case machine.Expire(names):
            outcomes.expire(conn, row, names, now_ns)
        case machine.StartWave(wave):
            conn.execute(update(rollouts).where(rollouts.c.id == row.id).values(wave=wave))
            set_state(conn, row.id, RolloutState.RUNNING, "", now_ns)
            audit.record(conn, now_ns, audit.HUB, ("rollout.wave", row.id), wave=wave)
        case machine.AwaitApproval(wave):
            set_state(conn, row.id, RolloutState.WAITING, f"wave {wave + 1} waits for approval", now_ns)
            audit.record(conn, now_ns, audit.HUB, ("rollout.await", row.id), wave=wave)
        case machine.Halt(reason):
            set_state(conn, row.id, RolloutState.HALTED, reason, now_ns)
            audit.record(conn, now_ns, audit.HUB, ("rollout.halt", row.id), reason=reason)
        case machine.Succeed():
            joined, fit_now = last_to_join(conn, row), suitability.reconsider_all(conn, row, now_ns)
            if joined or fit_now:  # it goes on with them
                conn.execute(_PACKED, {"rollout": row.id, "upto": UNPACKED})
                return NOTHING
            set_state(conn, row.id, RolloutState.SUCCEEDED, "", now_ns)
            audit.record(conn, now_ns, audit.HUB, ("rollout.succeed", row.id), model=row.model, version=row.version)
            return wake(Wake.BLOBS)
    return NOTHING


def _assign(conn: Connection, row: Row[Any], names: tuple[str, ...], means: Means) -> Effects:
    now_ns = means.now_ns
    variants = suitability.variants_for(conn, row, names, now_ns)
    unsuited = [name for name in names if name not in variants]
    if unsuited:
        audit.record(conn, now_ns, audit.HUB, ("rollout.reject", row.id), wave=row.wave, devices=unsuited)
    if not variants:
        return wake(Wake.ROLLOUTS)
    _hand_out(conn, row, variants, means)
    audit.record(conn, now_ns, audit.HUB, ("rollout.assign", row.id), wave=row.wave, devices=list(variants))
    return director.of_devices(conn, list(variants), means.topics) + wake(Wake.BLOBS, Wake.ROLLOUTS)


def _hand_out(conn: Connection, row: Row[Any], variants: Mapping[str, Variant], means: Means) -> None:
    plan, now_ns = plan_of(row), means.now_ns
    here = (versions.c.model == row.model) & (versions.c.version == row.version)
    release = msgspec.convert(conn.execute(select(versions.c.release_ref).where(here)).scalar_one(), ObjectRef)
    runs, shortcuts = _running(conn, row.slot, variants), deltas.offered(conn, variants, row.slot)
    wanted, changes = {}, []
    for member in ledger.rows_of(conn, row, variants):
        variant = variants[member.device]
        windows = machine.granted(plan, member.place, now_ns)
        execution = Execution(
            id=means.ids.new(),
            attempt=member.attempt,
            step_timeout_s=plan.step_timeout_s,
            total_timeout_s=plan.total_timeout_s,
            health_window_s=plan.health_window_s,
            windows=windows,
        )
        wanted[member.device] = SlotAssignment(
            slot=row.slot,
            model=row.model,
            version=row.version,
            variant=variant.name,
            sha256=variant.file.sha256,
            release=release,
            deltas=shortcuts.get((member.device, variant.file.sha256), ()),
            execution=execution,
        )
        due_ns = machine.overdue_ns(plan, now_ns, windows)
        told = {"execution": execution.id, "assigned_ns": now_ns, "status": Status.IN_FLIGHT, "due_ns": due_ns}
        changes.append((member, {**told, "measured": False, "previous": runs.get(member.device, member.previous)}))
    director.assign(conn, wanted, means.seal, now_ns)
    ledger.change(conn, row, changes, now_ns)
    _note_asked(conn, row, len(changes), now_ns)


def _running(conn: Connection, slot: str, names: Mapping[str, Variant]) -> dict[str, dict[str, Any]]:
    """What devices run now: model and version."""
    rows = conn.execute(_RUNNING, {"slot": slot, "names": sorted(names)})
    return {one.device: {"model": one.model, "version": one.version} for one in rows}


def _note_evidence(conn: Connection, row: Row[Any], plan: Plan, facts: Facts) -> None:
    now = {
        str(index): [msgspec.to_builtins(verdict) for verdict in machine.verdicts(plan, facts, index)]
        for index in range(facts.wave + 1)
    }
    if row.evidence != now:
        conn.execute(_JUDGED, {"rollout": row.id, "now": now})


def _pardon_outage(conn: Connection, row: Row[Any], now_ns: int) -> None:
    """Devices get the time back in which nobody could hear them."""
    gap_ns = now_ns - row.ticked_ns
    if row.ticked_ns and gap_ns > OUTAGE_S * SECOND:
        conn.execute(_PARDONED, {"in_rollout": row.id, "gap_ns": gap_ns})
    if gap_ns > NOTED_EVERY_S * SECOND:
        conn.execute(_TICKED, {"rollout": row.id, "now_ns": now_ns})


def _expire(conn: Connection, row: Row[Any], now_ns: int) -> None:
    """Executions under way in a rollout that goes no further still run out of time."""
    late = _overdue(conn, row, now_ns)
    if late:
        outcomes.expire(conn, row, late, now_ns)


def _overdue(conn: Connection, row: Row[Any], now_ns: int) -> tuple[str, ...]:
    return tuple(conn.execute(_LATE, {"rollout": row.id, "now_ns": now_ns}).scalars())


def _candidates(conn: Connection, row: Row[Any], full: tuple[str, ...], now_ns: int) -> tuple[Candidate, ...]:
    query = _READY.where(members.c.label_group.not_in(full)) if full else _READY
    rows = conn.execute(query, {"rollout": row.id, "wave": row.wave, "now_ns": now_ns})
    return tuple(Candidate(one.device, one.place, one.label_group) for one in rows)


def _unavailable(conn: Connection, row: Row[Any]) -> dict[str, int]:
    group = members.c.label_group
    under_way = (members.c.rollout == row.id) & (members.c.status == Status.IN_FLIGHT)
    query = select(group.label("name"), func.count().label("number")).where(under_way).group_by(group)
    return {one.name: one.number for one in conn.execute(query)}


def _asked(row: Row[Any], since_ns: int) -> int:
    """Assignments made since then, first and repeated ones."""
    return sum(number for at_ns, number in row.asked if at_ns > since_ns)


def _note_asked(conn: Connection, row: Row[Any], number: int, now_ns: int) -> None:
    recent = [one for one in row.asked if one[0] > now_ns - 60 * SECOND]
    here = rollouts.c.id == row.id
    conn.execute(update(rollouts).where(here).values(asked=[*recent, [now_ns, number]]))
