"""Rollouts: load the facts, let `core.rollout` decide, carry the decisions out, all in one transaction per rollout."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, select, update

from cloud.core import rollout as core
from cloud.core.federated_gate import matches
from cloud.core.registry import VersionState, why_not_rolled_out
from cloud.core.rollout import ACTIVE, COMMANDS, Command, Plan, RolloutState
from cloud.errors import ConflictError, InvalidError, UnknownError
from cloud.service import audit, deltas, director, suitability
from cloud.service.director import Seal
from cloud.service.effects import NOTHING, Effects, Wake, wake
from cloud.tables import ENROLLED, devices, members, rollouts, versions
from wire.assignment import Execution, SlotAssignment
from wire.codec import MAX_RELEASE_BYTES, decode
from wire.messages import Outcome
from wire.ports import Ids
from wire.release import ObjectRef, Release, Variant
from wire.topics import Topics

MAX_DECISIONS = 100
"""Decisions for one rollout in one tick; the next tick goes on."""


@dataclass(frozen=True, slots=True)
class NewRollout:
    """What the operator orders."""

    id: str
    model: str
    version: int
    slot: str
    selector: Mapping[str, str]
    variant: str | None
    plan: Plan


@dataclass(frozen=True, slots=True)
class Means:
    """What carrying decisions out needs beside the database."""

    seal: Seal
    ids: Ids
    topics: Topics
    now_ns: int


def create(conn: Connection, new: NewRollout, actor: str, now_ns: int) -> Effects:
    """Start a rollout.

    Raises:
        UnknownError: no such version. InvalidError: no such variant, or nobody is selected.
        ConflictError: the version is not released, or a device is held by another active rollout of the slot.
    """
    release = released(conn, new.model, new.version)
    if new.variant is not None and release.variant(new.variant) is None:
        names = ", ".join(variant.name for variant in release.variants)
        raise InvalidError(f"{new.model} version {new.version} has no variant {new.variant!r}; it has {names}")
    chosen = _selected(conn, new.selector)
    if not chosen:
        raise InvalidError(f"no enrolled device matches the selector {dict(new.selector)}")
    _refuse_if_held(conn, chosen, new.slot)
    waves = core.partition(new.id, new.plan.waves, chosen)
    alone = [device for device in chosen if device not in waves]
    plan = msgspec.to_builtins(new.plan) | {"fleet": len(chosen), "variant": new.variant, "left_alone": alone}
    values = {"model": new.model, "version": new.version, "slot": new.slot, "selector": dict(new.selector)}
    times = {"created_ns": now_ns, "updated_ns": now_ns}
    state = {"state": RolloutState.RUNNING, "wave": 0, "evidence": {}}
    conn.execute(insert(rollouts).values(id=new.id, plan=plan, **values, **times, **state))
    for device, wave in waves.items():
        conn.execute(insert(members).values(rollout=new.id, device=device, wave=wave))
    audit.record(conn, now_ns, actor, ("rollout.create", new.id), **values)
    return wake(Wake.ROLLOUTS)


def control(conn: Connection, rollout: str, command: Command, actor: str, now_ns: int) -> Effects:
    """Pause, resume or abort. Resuming acknowledges the failures seen so far, only those. Aborting keeps what runs."""
    row = conn.execute(select(rollouts).where(rollouts.c.id == rollout)).one_or_none()
    if row is None:
        raise UnknownError(f"there is no rollout {rollout!r}")
    target = COMMANDS.get((RolloutState(row.state), command))
    if target is None:
        raise ConflictError(f"rollout {rollout} is {row.state}: it cannot {command}")
    here = members.c.rollout == rollout
    if command is Command.RESUME:
        failed = here & members.c.outcome.is_not(None) & (members.c.outcome != Outcome.SUCCEEDED)
        conn.execute(update(members).where(failed).values(acknowledged=True))
    if command is Command.ABORT:
        waiting = here & members.c.assigned_ns.is_(None) & members.c.outcome.is_(None)
        conn.execute(update(members).where(waiting).values(outcome=Outcome.CANCELLED, finished_ns=now_ns))
    _set_state(conn, row.id, target, "" if command is Command.RESUME else f"{command} by {actor}", now_ns)
    states = {"before": {"state": row.state}, "after": {"state": target}}
    audit.record(conn, now_ns, actor, (f"rollout.{command}", rollout), **states)
    return wake(Wake.ROLLOUTS, Wake.BLOBS)


def tick(conn: Connection, means: Means) -> Effects:
    """Bring every rollout as far as its facts allow."""
    effects = NOTHING
    under_way = select(members.c.rollout).where(members.c.assigned_ns.is_not(None), members.c.outcome.is_(None))
    open_ones = rollouts.c.state.in_(sorted(ACTIVE)) | rollouts.c.id.in_(under_way)
    query = select(rollouts).where(open_ones).order_by(rollouts.c.created_ns, rollouts.c.id)
    for row in conn.execute(query).all():
        if row.state == RolloutState.RUNNING and deltas.undecided(conn, row):
            effects += wake(Wake.DELTAS)  # which wakes us again
        elif row.state == RolloutState.RUNNING:
            effects += _advance(conn, row, means)
        else:
            _expire(conn, row, means.now_ns)
    return effects


def released(conn: Connection, model: str, version: int) -> Release:
    """The release of a version that may be rolled out. Raises UnknownError, ConflictError."""
    row = conn.execute(select(versions).where(versions.c.model == model, versions.c.version == version)).one_or_none()
    if row is None:
        raise UnknownError(f"there is no version {version} of model {model!r}")
    problem = why_not_rolled_out(VersionState(row.state), row.reason)
    if problem:
        raise ConflictError(f"{model} version {version} cannot be used: {problem}")
    return decode(row.release, Release, limit=MAX_RELEASE_BYTES)


def _selected(conn: Connection, selector: Mapping[str, str]) -> list[str]:
    enrolled = select(devices.c.name, devices.c.labels).where(ENROLLED).order_by(devices.c.name)
    return [row.name for row in conn.execute(enrolled) if matches(row.labels, selector)]


def _held(conn: Connection, slot: str) -> dict[str, str]:
    """Device -> the active rollout that holds it in this slot."""
    query = (
        select(members.c.device, members.c.rollout)
        .join(rollouts, rollouts.c.id == members.c.rollout)
        .where(rollouts.c.slot == slot, rollouts.c.state.in_(sorted(ACTIVE)))
        .order_by(members.c.device)
    )
    return {row.device: row.rollout for row in conn.execute(query)}


def _refuse_if_held(conn: Connection, chosen: list[str], slot: str) -> None:
    held = _held(conn, slot)
    blocked = next((device for device in chosen if device in held), None)
    if blocked is not None:
        raise ConflictError(
            f"device {blocked} is in rollout {held[blocked]}, which is still active in slot {slot!r}: "
            "wait for it or abort it"
        )


def _advance(conn: Connection, row: Row[Any], means: Means) -> Effects:
    plan = plan_of(row)
    wave, effects = row.wave, NOTHING
    _join_late(conn, row, plan)
    suitability.reconsider(conn, row, means.now_ns)
    for _ in range(MAX_DECISIONS):
        facts = facts_of(conn, row.id)
        _note_evidence(conn, row.id, plan, facts, wave)
        decisions = core.evaluate(plan, wave, facts, means.now_ns)
        for decision in decisions:
            effects += _carry_out(conn, row, decision, means)
            wave = decision.wave if isinstance(decision, core.StartWave) else wave
        if not decisions or isinstance(decisions[-1], core.Succeed | core.Halt):
            break
    return effects


def _carry_out(conn: Connection, row: Row[Any], decision: core.Decision, means: Means) -> Effects:
    now_ns = means.now_ns
    match decision:
        case core.Assign(wave, names):
            variants = suitability.variants_for(conn, row, names, now_ns)
            unsuited = [name for name in names if name not in variants]
            if unsuited:
                audit.record(conn, now_ns, audit.HUB, ("rollout.reject", row.id), wave=wave, devices=unsuited)
            _assign(conn, row, variants, means)
            audit.record(conn, now_ns, audit.HUB, ("rollout.assign", row.id), wave=wave, devices=list(variants))
            return director.of_devices(conn, list(variants), means.topics) + wake(Wake.BLOBS)
        case core.Expire(names):
            _time_out(conn, row.id, names, now_ns)
        case core.StartWave(wave):
            conn.execute(update(rollouts).where(rollouts.c.id == row.id).values(wave=wave, updated_ns=now_ns))
            audit.record(conn, now_ns, audit.HUB, ("rollout.wave", row.id), wave=wave)
        case core.Halt(reason):
            _set_state(conn, row.id, RolloutState.HALTED, reason, now_ns)
            audit.record(conn, now_ns, audit.HUB, ("rollout.halt", row.id), reason=reason)
        case core.Succeed():
            _set_state(conn, row.id, RolloutState.SUCCEEDED, "", now_ns)
            audit.record(conn, now_ns, audit.HUB, ("rollout.succeed", row.id), model=row.model, version=row.version)
            return wake(Wake.BLOBS)
    return NOTHING


def _assign(conn: Connection, row: Row[Any], variants: Mapping[str, Variant], means: Means) -> None:
    version = conn.execute(
        select(versions.c.release_ref).where(versions.c.model == row.model, versions.c.version == row.version)
    ).one()
    plan = plan_of(row)
    for name, variant in variants.items():
        execution = Execution(
            id=means.ids.new(),
            step_timeout_s=plan.step_timeout_s,
            total_timeout_s=plan.total_timeout_s,
            health_window_s=plan.health_window_s,
        )
        slot = SlotAssignment(
            slot=row.slot,
            model=row.model,
            version=row.version,
            variant=variant.name,
            sha256=variant.file.sha256,
            release=msgspec.convert(version.release_ref, ObjectRef),
            deltas=deltas.offered(conn, name, row.slot, variant.file.sha256),
            execution=execution,
        )
        director.assign(conn, name, slot, means.seal, means.now_ns)
        member = update(members).where(members.c.rollout == row.id, members.c.device == name)
        conn.execute(member.values(execution=execution.id, assigned_ns=means.now_ns))


def _join_late(conn: Connection, row: Row[Any], plan: Plan) -> None:
    """Devices that have enrolled or been labelled since the start join under the same waves and gates.

    Those that were there at the start, beyond the last wave, stay left alone.
    """
    held = _held(conn, row.slot)
    known = set(row.plan["left_alone"])
    known |= set(conn.execute(select(members.c.device).where(members.c.rollout == row.id)).scalars())
    for name in _selected(conn, row.selector):
        if name in known or name in held:
            continue
        wave = core.late_joiner(row.id, plan, row.plan["fleet"], row.wave, name)
        if wave is not None:
            conn.execute(insert(members).values(rollout=row.id, device=name, wave=wave))


def _note_evidence(conn: Connection, rollout: str, plan: Plan, facts: tuple[core.Member, ...], wave: int) -> None:
    stored = conn.execute(select(rollouts.c.evidence).where(rollouts.c.id == rollout)).scalar_one()
    now = {str(index): [asdict(verdict) for verdict in core.verdicts(plan, facts, index)] for index in range(wave + 1)}
    if stored != now:
        conn.execute(update(rollouts).where(rollouts.c.id == rollout).values(evidence=now))


def _expire(conn: Connection, row: Row[Any], now_ns: int) -> None:
    """Executions under way in a rollout that goes no further still run out of time."""
    late = core.overdue(plan_of(row), facts_of(conn, row.id), now_ns)
    _time_out(conn, row.id, late, now_ns)


def _time_out(conn: Connection, rollout: str, names: tuple[str, ...], now_ns: int) -> None:
    if names:
        here = (members.c.rollout == rollout) & members.c.device.in_(names)
        reason = "nothing was heard of it within its total time"
        values = {"outcome": Outcome.TIMED_OUT, "reason": reason, "finished_ns": now_ns}
        conn.execute(update(members).where(here).values(values))


def _set_state(conn: Connection, rollout: str, state: RolloutState, reason: str, now_ns: int) -> None:
    finished = None if state in ACTIVE else now_ns
    values = {"state": state, "reason": reason, "updated_ns": now_ns, "finished_ns": finished}
    conn.execute(update(rollouts).where(rollouts.c.id == rollout).values(values))


def plan_of(row: Row[Any]) -> Plan:
    """The plan of a rollout's row."""
    known = {name: row.plan[name] for name in Plan.__dataclass_fields__}
    return msgspec.convert(known, Plan)


def facts_of(conn: Connection, rollout: str) -> tuple[core.Member, ...]:
    """The facts about every device of a rollout."""
    query = select(members).where(members.c.rollout == rollout).order_by(members.c.device)
    return tuple(
        core.Member(
            device=row.device,
            wave=row.wave,
            assigned_ns=row.assigned_ns,
            outcome=None if row.outcome is None else Outcome(row.outcome),
            acknowledged=row.acknowledged,
            golden_matched=row.golden_matched,
            golden_total=row.golden_total,
        )
        for row in conn.execute(query)
    )
