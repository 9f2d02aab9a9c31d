"""What keeps devices from being given anything new, as rollouts read it: holds, pins, and the halt of the fleet."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Connection, Row, Select, and_, select

from cloud.tables import devices, fleet_halt, pins

Given = str | int | BindParameter[Any]
"""A value, or the parameter that it comes as."""

_HALT = select(fleet_halt.c.reason)


def free(slot: Given, model: Given, version: Given) -> ColumnElement[bool]:
    """Condition on `devices`: may a rollout of this version take this slot of it?"""
    return and_(devices.c.held_ns.is_(None), devices.c.name.not_in(_pinned_elsewhere(slot, model, version)))


def kept(conn: Connection, rollout: Row[Any], names: Iterable[str]) -> frozenset[str]:
    """Which of these devices were held or pinned while they had to do with the rollout: they are asked no more. A
    rollout that takes back asks everybody."""
    if rollout.reverts is not None:
        return frozenset()
    here = devices.c.name.in_(sorted(names))
    barred = ~free(rollout.slot, rollout.model, rollout.version)
    return frozenset(conn.execute(select(devices.c.name).where(here, barred)).scalars())


def halted(conn: Connection) -> str:
    """Why the fleet is halted; empty when it is not."""
    return conn.scalar(_HALT) or ""


def _pinned_elsewhere(slot: Given, model: Given, version: Given) -> Select[tuple[str]]:
    other = (pins.c.model != model) | (pins.c.version != version)
    return select(pins.c.device).where(pins.c.slot == slot, other)
