"""What people say to rollouts: start, pause, approve, resume, abort, revert."""

import hashlib
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, or_, select, update

from cloud.core.rollout import ACTIVE, Command, Plan, RolloutState, Wave
from cloud.core.rollout.members import Status
from cloud.core.rollout.plan import PlanError, check
from cloud.core.rollout.states import COMMANDS
from cloud.core.rollout.waves import place
from cloud.errors import ConflictError, InvalidError
from cloud.service import audit
from cloud.service.effects import Effects, Wake, wake
from cloud.service.rollouts import joining, ledger
from cloud.service.rollouts.plans import NewRollout, plan_of, released, rollout_row
from cloud.tables import ENROLLED, devices, members, rollouts
from wire.messages import Outcome


def create(conn: Connection, new: NewRollout, actor: str, now_ns: int) -> Effects:
    """Start a rollout.

    Raises:
        UnknownError: no such version. InvalidError: no such variant, a plan that cannot work, or nobody is selected.
        ConflictError: the version is not released, or a device is held by another active rollout of the slot.
    """
    try:
        check(new.plan, now_ns)
    except PlanError as error:
        raise InvalidError(str(error)) from error
    release = released(conn, new.model, new.version)
    if new.variant is not None and release.variant(new.variant) is None:
        names = ", ".join(variant.name for variant in release.variants)
        raise InvalidError(f"{new.model} version {new.version} has no variant {new.variant!r}; it has {names}")
    chosen = joining.selected(conn, new)
    if not chosen:
        raise InvalidError(joining.why_nobody(conn, new))
    joining.refuse_if_held(conn, chosen, new.slot)
    row = _insert(conn, new, None, now_ns)
    joining.enter_all(conn, row, chosen)
    about = {"model": new.model, "version": new.version, "slot": new.slot, "selector": dict(new.selector)}
    audit.record(conn, now_ns, actor, ("rollout.create", new.id), **about)
    return wake(Wake.ROLLOUTS)


def control(conn: Connection, rollout: str, command: Command, actor: str, now_ns: int) -> Effects:
    """Pause, approve the next wave, resume, or abort: keeping what runs, or reverting.

    Resuming acknowledges the failures seen so far, only those; after a halt all evidence of the devices that have ended
    so far, figures that are missing included: the gates go on with what comes after it.
    """
    row = rollout_row(conn, rollout)
    target = COMMANDS.get((RolloutState(row.state), command))
    if target is None:
        raise ConflictError(f"rollout {rollout} is {row.state}: it cannot {command}")
    if command is Command.APPROVE:
        conn.execute(update(rollouts).where(rollouts.c.id == rollout).values(approved=row.wave + 1))
    if command is Command.RESUME:
        _acknowledge(conn, row, now_ns)
    if target is RolloutState.ABORTED:
        _cancel_waiting(conn, row, now_ns)
    said = "" if target is RolloutState.RUNNING else f"{command} by {actor}"
    set_state(conn, rollout, target, said, now_ns)
    states = {"before": {"state": row.state}, "after": {"state": target}}
    audit.record(conn, now_ns, actor, (f"rollout.{command}", rollout), **states)
    if command is Command.REVERT:
        _revert(conn, row, actor, now_ns)
    return wake(Wake.ROLLOUTS, Wake.BLOBS)


def set_state(conn: Connection, rollout: str, state: RolloutState, reason: str, now_ns: int) -> None:
    """Where it stands from now on."""
    finished = None if state in ACTIVE else now_ns
    values = {"state": state, "reason": reason, "updated_ns": now_ns, "finished_ns": finished}
    conn.execute(update(rollouts).where(rollouts.c.id == rollout).values(values))


def _insert(conn: Connection, new: NewRollout, reverts: str | None, now_ns: int) -> Row[Any]:
    plan = msgspec.to_builtins(new.plan) | {"variant": new.variant}
    values = {"model": new.model, "version": new.version, "slot": new.slot, "selector": dict(new.selector)}
    times = {"created_ns": now_ns, "updated_ns": now_ns, "ticked_ns": now_ns}
    state = {"state": RolloutState.RUNNING, "wave": 0, "evidence": {}, "reverts": reverts}
    conn.execute(insert(rollouts).values(id=new.id, plan=plan, **values, **times, **state))
    return rollout_row(conn, new.id)


def _acknowledge(conn: Connection, row: Row[Any], now_ns: int) -> None:
    """What a person has seen: failures; after a halt, all that has ended."""
    failed = members.c.outcome != Outcome.SUCCEEDED
    seen = or_(failed, row.state == RolloutState.HALTED)
    query = select(members).where(members.c.rollout == row.id, members.c.status == Status.ENDED, seen)
    rows = conn.execute(query.where(~members.c.acknowledged)).all()
    ledger.change(conn, row, [(one, {"acknowledged": True}) for one in rows], now_ns)


def _cancel_waiting(conn: Connection, row: Row[Any], now_ns: int) -> None:
    rows = conn.execute(select(members).where(members.c.rollout == row.id, members.c.status == Status.WAITING)).all()
    cancelled = {"outcome": Outcome.CANCELLED, "status": Status.ENDED, "finished_ns": now_ns}
    ledger.change(conn, row, [(one, cancelled) for one in rows], now_ns)


def _revert(conn: Connection, row: Row[Any], actor: str, now_ns: int) -> None:
    """Whoever was reached gets back what it ran: one rollout of each earlier version, with the same timers. A version
    that was retired since is good enough for that: those devices know it."""
    reached = select(members.c.device, members.c.previous).join(devices, devices.c.name == members.c.device)
    reached = reached.where(members.c.rollout == row.id, members.c.execution != "", ENROLLED)
    groups: dict[tuple[str, int], list[str]] = {}
    for one in conn.execute(reached.order_by(members.c.device)):
        if one.previous is not None:
            groups.setdefault((one.previous["model"], one.previous["version"]), []).append(one.device)
    before = plan_of(row)
    plan = Plan(
        (Wave(percent=100),),
        (),
        before.health_window_s,
        before.step_timeout_s,
        before.total_timeout_s,
        rate=before.rate,
    )
    for (model, version), names in sorted(groups.items()):
        name = hashlib.sha256(f"{row.id} {model} {version}".encode()).hexdigest()[:32]
        back = NewRollout(name, model, version, row.slot, {}, None, plan)
        made = _insert(conn, back, row.id, now_ns)
        ledger.enter(
            conn,
            made,
            [{"device": name, "wave": 0, "place": place(back.id, name), "label_group": ""} for name in names],
        )
        audit.record(conn, now_ns, actor, ("rollout.create", back.id), model=model, version=version, reverts=row.id)
