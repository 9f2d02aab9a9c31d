"""Who takes part in a rollout: at its start, and devices that enrol or get their labels later.

Late joiners come under the same waves, rate and gates. Devices that were there at the start, beyond the last wave,
stay left alone. The fleet is looked through in turn, some devices in each tick, however large it is; and all of it once
more before a rollout has succeeded.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, insert, select, true, update

from cloud.core.rollout import ACTIVE, Plan
from cloud.core.rollout.waves import late_joiner, partition, place
from cloud.errors import ConflictError
from cloud.service import restraints, selecting
from cloud.service.rollouts import ledger
from cloud.service.rollouts.plans import NewRollout, plan_of
from cloud.tables import ENROLLED, devices, members, rollout_bystanders, rollouts

LOOKED_AT_ONCE = 1_000
MAX_GROUP = 255

Labels = Mapping[str, Mapping[str, str]]
"""Devices and their labels."""


def selected(conn: Connection, order: NewRollout | Row[Any]) -> Labels:
    """Devices of the fleet that the order's selector means now, and that nothing keeps from its version."""
    query = select(devices.c.name, devices.c.labels).where(_eligible(conn, order)).order_by(devices.c.name)
    return {row.name: row.labels for row in conn.execute(query)}


def refuse_if_held(conn: Connection, chosen: Labels, slot: str) -> None:
    """Raises ConflictError naming the active rollout that holds one of the devices."""
    query = (
        select(members.c.device, members.c.rollout)
        .join(rollouts, rollouts.c.id == members.c.rollout)
        .where(rollouts.c.slot == slot, rollouts.c.state.in_(sorted(ACTIVE)))
        .order_by(members.c.device)
    )
    for row in conn.execute(query):
        if row.device in chosen:
            raise ConflictError(
                f"device {row.device} is in rollout {row.rollout}, which is still active in slot {slot!r}: "
                "wait for it or abort it"
            )


def enter_all(conn: Connection, rollout: Row[Any], chosen: Labels) -> None:
    """Everybody who is there at the start."""
    plan = plan_of(rollout)
    waves = partition(rollout.id, plan.waves, chosen)
    ledger.enter(conn, rollout, [_newcomer(rollout.id, plan, name, waves[name], chosen[name]) for name in waves])
    alone = [{"rollout": rollout.id, "device": name} for name in chosen if name not in waves]
    if alone:
        conn.execute(insert(rollout_bystanders), alone)


def join_late(conn: Connection, rollout: Row[Any]) -> None:
    """Devices that match the selector now and belong to nobody."""
    if rollout.reverts is not None:
        return
    _join(conn, rollout, _turn(conn, rollout))


def last_to_join(conn: Connection, rollout: Row[Any]) -> bool:
    """The same of the whole fleet, before the rollout ends. Has anybody joined?"""
    return rollout.reverts is None and _join(conn, rollout, true())


def _join(conn: Connection, rollout: Row[Any], turn: ColumnElement[bool]) -> bool:
    plan, joined = plan_of(rollout), []
    for row in conn.execute(_strangers(conn, rollout).where(turn)).all():
        wave = late_joiner(rollout.id, plan, rollout.wave, row.name, row.labels)
        if wave is None:
            conn.execute(insert(rollout_bystanders).values(rollout=rollout.id, device=row.name))
        else:
            joined.append(_newcomer(rollout.id, plan, row.name, wave, row.labels))
    ledger.enter(conn, rollout, joined)
    return bool(joined)


def _turn(conn: Connection, rollout: Row[Any]) -> ColumnElement[bool]:
    """The next devices, by name; after the last one the first again."""
    after = devices.c.name > rollout.joined_to
    last = conn.scalar(select(devices.c.name).where(after).order_by(devices.c.name).offset(LOOKED_AT_ONCE - 1).limit(1))
    if (last or "") != rollout.joined_to:
        conn.execute(update(rollouts).where(rollouts.c.id == rollout.id).values(joined_to=last or ""))
    return after if last is None else and_(after, devices.c.name <= last)


def _strangers(conn: Connection, rollout: Row[Any]) -> Select[Any]:
    """Whom no active rollout of the slot has, this one included."""
    aside = select(rollout_bystanders.c.device).where(
        rollout_bystanders.c.rollout == rollout.id, rollout_bystanders.c.device == devices.c.name
    )
    held = (
        select(members.c.device)
        .join(rollouts, rollouts.c.id == members.c.rollout)
        .where(members.c.device == devices.c.name, rollouts.c.slot == rollout.slot)
        .where(rollouts.c.state.in_(sorted(ACTIVE)))
    )
    free = and_(~aside.exists(), ~held.exists())
    return select(devices.c.name, devices.c.labels).where(_eligible(conn, rollout), free).order_by(devices.c.name)


def _eligible(conn: Connection, order: NewRollout | Row[Any]) -> ColumnElement[bool]:
    free = restraints.free(order.slot, order.model, order.version)
    return and_(ENROLLED, selecting.selected(conn, order.selector), free)


def _newcomer(rollout: str, plan: Plan, device: str, wave: int, labels: Mapping[str, str]) -> dict[str, Any]:
    group = labels.get(plan.disruption.label, "") if plan.disruption else ""
    return {"device": device, "wave": wave, "place": place(rollout, device), "label_group": group[:MAX_GROUP]}
