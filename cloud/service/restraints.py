"""What keeps devices from being given anything new, as rollouts read it: holds, pins, and the halt of the fleet."""

from sqlalchemy import ColumnElement, Connection, Select, and_, select

from cloud.tables import devices, fleet_halt, pins


def free(slot: str, model: str, version: int) -> ColumnElement[bool]:
    """Condition on `devices`: may a rollout of this version take this slot of it?"""
    return and_(devices.c.held_ns.is_(None), devices.c.name.not_in(_pinned_elsewhere(slot, model, version)))


def halted(conn: Connection) -> str:
    """Why the fleet is halted; empty when it is not."""
    return conn.scalar(select(fleet_halt.c.reason)) or ""


def _pinned_elsewhere(slot: str, model: str, version: int) -> Select[tuple[str]]:
    other = (pins.c.model != model) | (pins.c.version != version)
    return select(pins.c.device).where(pins.c.slot == slot, other)
