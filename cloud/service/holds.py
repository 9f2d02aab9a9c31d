"""Keeping a device, or the whole fleet, from being given anything new: what operators say. `restraints` is what
rollouts read of it.

*Hold*: no rollout takes the device. *Pin*: rollouts of another version do not take this slot of it. *Halt*: nobody is
assigned anything. What is under way goes on to its end; a device that waits in a rollout steps out of it, and is a late
joiner like any other once it is free again. A revert takes back what a rollout has brought, on held devices, too.
"""

from sqlalchemy import Connection, delete, insert, select, true, update

from cloud.errors import ConflictError, UnknownError
from cloud.service import audit
from cloud.service.effects import NOTHING, Effects, Wake, wake
from cloud.service.rollouts import leaving
from cloud.tables import devices, fleet_halt, pins, rollouts

HALT = 1
"""The only row of its table."""


def hold(conn: Connection, device: str, reason: str, actor: str, now_ns: int) -> Effects:
    """Keep the device as it is. Holding it again changes the reason. Raises UnknownError."""
    _known(conn, device)
    held = {"held_ns": now_ns, "held_reason": reason, "held_by": actor}
    conn.execute(update(devices).where(devices.c.name == device).values(held))
    leaving.step_out(conn, device, true())
    audit.record(conn, now_ns, actor, ("device.hold", device), reason=reason)
    return wake(Wake.ROLLOUTS)


def release(conn: Connection, device: str, actor: str, now_ns: int) -> Effects:
    """Rollouts may take it again. Raises UnknownError; ConflictError when it is not held."""
    _known(conn, device)
    free_again = {"held_ns": None, "held_reason": "", "held_by": ""}
    here = (devices.c.name == device) & devices.c.held_ns.is_not(None)
    if not conn.execute(update(devices).where(here).values(free_again)).rowcount:
        raise ConflictError(f"device {device} is not held")
    audit.record(conn, now_ns, actor, ("device.release", device))
    return wake(Wake.ROLLOUTS)


def pin(conn: Connection, of: tuple[str, str], to: tuple[str, int], reason: str, by: tuple[str, int]) -> Effects:
    """Keep slot `of` = (device, slot) at version `to` = (model, number), `by` = (actor, now). It installs nothing.

    Raises UnknownError.
    """
    (device, slot), (model, version), (actor, now_ns) = of, to, by
    _known(conn, device)
    _unpin(conn, device, slot)
    row = {"device": device, "slot": slot, "model": model, "version": version}
    conn.execute(insert(pins).values(row | {"reason": reason, "pinned_by": actor, "created_ns": now_ns}))
    other = (rollouts.c.model != model) | (rollouts.c.version != version)
    leaving.step_out(conn, device, (rollouts.c.slot == slot) & other)
    audit.record(conn, now_ns, actor, ("device.pin", device), slot=slot, model=model, version=version, reason=reason)
    return wake(Wake.ROLLOUTS)


def unpin(conn: Connection, device: str, slot: str, actor: str, now_ns: int) -> Effects:
    """Any version may take the slot again. Raises UnknownError; ConflictError when it is not pinned."""
    _known(conn, device)
    if not _unpin(conn, device, slot):
        raise ConflictError(f"slot {slot!r} of device {device} is not pinned")
    audit.record(conn, now_ns, actor, ("device.unpin", device), slot=slot)
    return wake(Wake.ROLLOUTS)


def halt(conn: Connection, reason: str, actor: str, now_ns: int) -> Effects:
    """Assign nobody anything. Halting again changes the reason."""
    conn.execute(delete(fleet_halt))
    conn.execute(insert(fleet_halt).values(id=HALT, reason=reason, halted_by=actor, halted_ns=now_ns))
    audit.record(conn, now_ns, actor, ("fleet.halt", "fleet"), reason=reason)
    return NOTHING


def resume(conn: Connection, actor: str, now_ns: int) -> Effects:
    """Go on where everything stopped. Raises ConflictError."""
    if not conn.execute(delete(fleet_halt)).rowcount:
        raise ConflictError("the fleet is not halted")
    audit.record(conn, now_ns, actor, ("fleet.resume", "fleet"))
    return wake(Wake.ROLLOUTS)


def _unpin(conn: Connection, device: str, slot: str) -> int:
    return conn.execute(delete(pins).where(pins.c.device == device, pins.c.slot == slot)).rowcount


def _known(conn: Connection, device: str) -> None:
    if conn.scalar(select(devices.c.name).where(devices.c.name == device)) is None:
        raise UnknownError(f"there is no device {device!r}")
