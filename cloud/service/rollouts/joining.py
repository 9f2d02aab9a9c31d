"""Who takes part in a rollout: at its start, and devices that enrol or get their labels later.

Late joiners come under the same waves, rate and gates. Devices that were there at the start, beyond the last wave,
stay left alone. The fleet is looked through in turn, some devices in each tick, however large it is; and all of it once
more before a rollout has succeeded.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, bindparam, insert, select, true, update

from cloud.core.rollout import ACTIVE, Plan
from cloud.core.rollout.waves import late_joiner, partition, place
from cloud.errors import ConflictError
from cloud.service import restraints, selecting
from cloud.service.rollouts import ledger
from cloud.service.rollouts.plans import NewRollout, plan_of
from cloud.tables import ENROLLED, devices, members, rollout_bystanders, rollouts

LOOKED_AT_ONCE = 1_000
MAX_GROUP = 255
SELECTORS = 64
"""Of so many selectors the statement that looks for late joiners is kept."""

_LAST_OF_TURN = (
    select(devices.c.name)
    .where(devices.c.name > bindparam("after"))
    .order_by(devices.c.name)
    .offset(LOOKED_AT_ONCE - 1)
    .limit(1)
)
_ASIDE = select(rollout_bystanders.c.device).where(
    rollout_bystanders.c.rollout == bindparam("rollout"), rollout_bystanders.c.device == devices.c.name
)
_HELD = (
    select(members.c.device)
    .join(rollouts, rollouts.c.id == members.c.rollout)
    .where(members.c.device == devices.c.name, rollouts.c.slot == bindparam("slot"))
    .where(rollouts.c.state.in_(sorted(ACTIVE)))
)

Labels = Mapping[str, Mapping[str, str]]
"""Devices and their labels."""


def selected(conn: Connection, order: NewRollout | Row[Any]) -> Labels:
    """Devices of the fleet that the order's selector means now, and that nothing keeps from its version."""
    query = select(devices.c.name, devices.c.labels).where(_eligible(conn, order)).order_by(devices.c.name)
    return {row.name: row.labels for row in conn.execute(query)}


def why_nobody(conn: Connection, order: NewRollout) -> str:
    """What keeps the devices out that the order's selector means, when nobody is selected."""
    pinned = f"pinned to another version in slot {order.slot!r}"
    return selecting.why_nobody(conn, order.selector, (devices.c.held_ns.is_not(None), "held"), (true(), pinned))


def refuse_if_held(conn: Connection, chosen: Labels, slot: str) -> None:
    """Raises ConflictError naming the active rollout that holds one of the devices, and how many are held like it."""
    query = (
        select(members.c.device, members.c.rollout)
        .join(rollouts, rollouts.c.id == members.c.rollout)
        .where(rollouts.c.slot == slot, rollouts.c.state.in_(sorted(ACTIVE)))
        .order_by(members.c.device)
    )
    held = [row for row in conn.execute(query) if row.device in chosen]
    if held:
        raise ConflictError(
            f"{len(held)} of {len(chosen)} devices are in rollouts that are still active in slot {slot!r}, "
            f"such as {held[0].device} in rollout {held[0].rollout}: wait for it or abort it"
        )


def enter_all(conn: Connection, rollout: Row[Any], chosen: Labels) -> None:
    """Everybody who is there at the start."""
    plan = plan_of(rollout)
    waves = partition(rollout.id, plan.waves, chosen)
    ledger.enter(conn, rollout, [_newcomer(rollout.id, plan, name, waves[name], chosen[name]) for name in waves])
    alone = [{"rollout": rollout.id, "device": name} for name in chosen if name not in waves]
    if alone:
        conn.execute(insert(rollout_bystanders), alone)


def join_late(conn: Connection, rollout: Row[Any]) -> bool:
    """The next devices, of those that match the selector now and belong to nobody. Has anybody joined?"""
    if rollout.reverts is not None:
        return False
    return _join(conn, rollout, rollout.joined_to, _last_of_turn(conn, rollout))


def last_to_join(conn: Connection, rollout: Row[Any]) -> bool:
    """The same of the whole fleet, before the rollout ends. Has anybody joined?"""
    return rollout.reverts is None and _join(conn, rollout, "", "")


def _join(conn: Connection, rollout: Row[Any], after: str, last: str) -> bool:
    plan, joined = plan_of(rollout), []
    for row in _strangers(conn, rollout, after, last):
        wave = late_joiner(rollout.id, plan, rollout.wave, row.name, row.labels)
        if wave is None:
            conn.execute(insert(rollout_bystanders).values(rollout=rollout.id, device=row.name))
        else:
            joined.append(_newcomer(rollout.id, plan, row.name, wave, row.labels))
    ledger.enter(conn, rollout, joined)
    return bool(joined)


def _last_of_turn(conn: Connection, rollout: Row[Any]) -> str:
    """The next devices, by name, end with this one; empty: with the last, after which the first is next."""
    last = conn.scalar(_LAST_OF_TURN, {"after": rollout.joined_to}) or ""
    if last != rollout.joined_to:
        conn.execute(update(rollouts).where(rollouts.c.id == rollout.id).values(joined_to=last))
    return last


def _strangers(conn: Connection, rollout: Row[Any], after: str, last: str) -> list[Row[Any]]:
    """Whom no active rollout of the slot has; names above `after`, up to `last` unless it is empty."""
    pairs = rollout.selector
    if selecting.GROUP in pairs:
        query = _strangers_among(selecting.selected(conn, pairs), bounded=bool(last))
    else:
        query = _strangers_labelled(tuple(sorted(pairs.items())), bounded=bool(last))
    which = {"model": rollout.model, "version": rollout.version, "slot": rollout.slot}
    return list(conn.execute(query, {"rollout": rollout.id, "after": after, **which, "last": last}).all())


@lru_cache(SELECTORS)
def _strangers_labelled(pairs: tuple[tuple[str, str], ...], *, bounded: bool) -> Select[Any]:
    return _strangers_among(selecting.labelled(dict(pairs)), bounded=bounded)


def _strangers_among(meant: ColumnElement[bool], *, bounded: bool) -> Select[Any]:
    """`bounded`: others come after the last one."""
    free = restraints.free(bindparam("slot"), bindparam("model"), bindparam("version"))
    turn = devices.c.name > bindparam("after")
    if bounded:
        turn &= devices.c.name <= bindparam("last")
    here = and_(ENROLLED, meant, free, ~_ASIDE.exists(), ~_HELD.exists(), turn)
    return select(devices.c.name, devices.c.labels).where(here).order_by(devices.c.name)


def _eligible(conn: Connection, order: NewRollout | Row[Any]) -> ColumnElement[bool]:
    free = restraints.free(order.slot, order.model, order.version)
    return and_(ENROLLED, selecting.selected(conn, order.selector), free)


def _newcomer(rollout: str, plan: Plan, device: str, wave: int, labels: Mapping[str, str]) -> dict[str, Any]:
    group = labels.get(plan.disruption.label, "") if plan.disruption else ""
    return {"device": device, "wave": wave, "place": place(rollout, device), "label_group": group[:MAX_GROUP]}
