"""Devices that wait for a window when their rollout, or the fleet, is halted or aborted: they shall not begin later on.

What is under way in a rollout goes on to its end, which is a matter of minutes. What has not begun is taken back: the
device shall run what it runs. In a halted rollout it waits again, unless it has been held since: then it steps out; in
an aborted one it is cancelled. Should it have installed it nevertheless, out of reach, that counts for nothing: it goes
back. A device that another rollout has told something since is left to that one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select

from cloud.core.rollout import RolloutState
from cloud.core.rollout.members import Status
from cloud.service import audit, director, restraints
from cloud.service.director import Seal
from cloud.service.effects import NOTHING, Effects
from cloud.service.rollouts import ledger
from cloud.service.rollouts.plans import plan_of
from cloud.tables import members, slots, versions
from wire.assignment import Execution, SlotAssignment
from wire.messages import Outcome, Phase
from wire.ports import Ids
from wire.release import ObjectRef
from wire.topics import Topics

AT_ONCE = 500
"""Devices that one tick recalls at most."""
_BEGUN = (Phase.FETCHING_RELEASE, Phase.FETCHING, Phase.VERIFYING, Phase.TRIAL)


def recall(conn: Connection, rollout: Row[Any], seal: Seal, ids: Ids, topics: Topics, now_ns: int) -> Effects:
    """Take back what has not begun, if there are windows that it may wait for."""
    plan = plan_of(rollout)
    rows = _not_begun(conn, rollout) if plan.window or plan.install_window else ()
    if not rows:
        return NOTHING
    told = director.executions(conn, [row.device for row in rows], rollout.slot)
    names = [row.device for row in rows if told.get(row.device) == row.execution]
    back = _what_they_run(conn, rollout.slot, names, ids)
    director.assign(conn, back, seal, now_ns)
    director.withdraw(conn, [name for name in names if name not in back], rollout.slot, seal, now_ns)
    cancelled = {"outcome": Outcome.CANCELLED, "status": Status.ENDED, "finished_ns": now_ns}
    waiting = {"status": Status.WAITING, "assigned_ns": None, "due_ns": now_ns}
    aborted = rollout.state == RolloutState.ABORTED
    then = {"execution": "", **(cancelled if aborted else waiting)}
    aside = frozenset[str]() if aborted else restraints.kept(conn, rollout, [row.device for row in rows])
    ledger.leave(conn, rollout, [row for row in rows if row.device in aside])
    ledger.change(conn, rollout, [(row, then) for row in rows if row.device not in aside], now_ns)
    audit.record(conn, now_ns, audit.HUB, ("rollout.recall", rollout.id), devices=names)
    return director.of_devices(conn, names, topics)


def _not_begun(conn: Connection, rollout: Row[Any]) -> Sequence[Row[Any]]:
    """Those that say they wait, or have not said anything of this execution."""
    here = (slots.c.device == members.c.device) & (slots.c.slot == rollout.slot)
    begun = select(slots.c.device).where(here, slots.c.execution == members.c.execution, slots.c.phase.in_(_BEGUN))
    mine = (members.c.rollout == rollout.id) & (members.c.status == Status.IN_FLIGHT)
    return conn.execute(select(members).where(mine, ~begun.exists()).order_by(members.c.device).limit(AT_ONCE)).all()


def _what_they_run(conn: Connection, slot: str, names: Sequence[str], ids: Ids) -> Mapping[str, SlotAssignment]:
    """As an assignment that is fulfilled already; nothing for devices that run nothing there."""
    versions_of = (versions.c.model == slots.c.model) & (versions.c.version == slots.c.version)
    query = select(slots, versions.c.release_ref).join(versions, versions_of)
    return {
        row.device: SlotAssignment(
            slot=slot,
            model=row.model,
            version=row.version,
            variant=row.variant,
            sha256=row.sha256,
            release=msgspec.convert(row.release_ref, ObjectRef),
            execution=Execution(id=ids.new()),
        )
        for row in conn.execute(query.where(slots.c.slot == slot, slots.c.device.in_(names)))
    }
