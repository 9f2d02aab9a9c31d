"""Devices that leave rollouts: because they are to stay as they are, or because they are of the fleet no more."""

from sqlalchemy import ColumnElement, Connection, select

from cloud.core.rollout import ACTIVE
from cloud.core.rollout.members import Status
from cloud.service.rollouts import ledger
from cloud.tables import members, rollouts
from wire.messages import Outcome


def step_out(conn: Connection, device: str, of: ColumnElement[bool]) -> None:
    """It waits no longer in the active rollouts that `of` is true for. Once it may, it joins again like a late one."""
    mine = select(members.c.rollout).where(members.c.device == device, members.c.status == Status.WAITING)
    active = (rollouts.c.state.in_(sorted(ACTIVE))) & rollouts.c.reverts.is_(None)
    for rollout in conn.execute(select(rollouts).where(rollouts.c.id.in_(mine), active, of)).all():
        here = (members.c.rollout == rollout.id) & (members.c.device == device)
        ledger.leave(conn, rollout, conn.execute(select(members).where(here)).all())


def cancel(conn: Connection, device: str, reason: str, now_ns: int) -> None:
    """Whatever it waits for or has under way ends, and is nobody's failure."""
    open_ones = members.c.status != Status.ENDED
    mine = select(members.c.rollout).where(members.c.device == device, open_ones)
    cancelled = {"outcome": Outcome.CANCELLED, "status": Status.ENDED, "reason": reason, "finished_ns": now_ns}
    for rollout in conn.execute(select(rollouts).where(rollouts.c.id.in_(mine))).all():
        here = (members.c.rollout == rollout.id) & (members.c.device == device) & open_ones
        rows = conn.execute(select(members).where(here)).all()
        ledger.change(conn, rollout, [(row, cancelled) for row in rows], now_ns)
