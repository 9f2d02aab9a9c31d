"""Devices that cannot run a version, and agents that cannot read what the plan has to say, are told apart before
anything is sent to them.

The member ends as `rejected` with the exact reason, and its rollout counts it like any rejection. Capabilities change:
a device that has reported since is looked at again as long as its rollout runs, and waits for its turn if it fits now.
The rejected are looked through in turn, some in each tick, however many there are; and all of them once more before a
rollout has succeeded.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, update

from cloud.core.fitting import fit, preferred
from cloud.core.rollout.machine import grants_windows
from cloud.core.rollout.members import Status
from cloud.many import among
from cloud.service import releases
from cloud.service.rollouts import ledger
from cloud.service.rollouts.plans import plan_of
from cloud.tables import devices, members, rollouts, versions
from wire.assignment import WINDOWS_SCHEMA
from wire.codec import SCHEMA, decode
from wire.errors import WireError
from wire.messages import Outcome, Reported
from wire.release import Release, Variant

MAX_REASON = 500
LOOKED_AT_ONCE = 500

_REPORTS = select(devices.c.name, devices.c.reported).where(among(devices.c.name, "names")).order_by(devices.c.name)
_REJECTED = select(members.c.device).where(
    members.c.rollout == bindparam("rollout"),
    members.c.outcome == Outcome.REJECTED,
    members.c.assigned_ns.is_(None),
    ~members.c.measured,
)
"""By the index `ix_members_outcome`; what was measured of them while they waited is looked for anew."""
_IN_TURN = _REJECTED.where(members.c.device > bindparam("after")).order_by(members.c.device).limit(LOOKED_AT_ONCE)
_HEARD_SINCE = (
    select(members.c.device)
    .join(devices, devices.c.name == members.c.device)
    .where(members.c.rollout == bindparam("rollout"), devices.c.reported_ns > members.c.finished_ns)
    .where(among(members.c.device, "names"))
    .order_by(members.c.device)
)


def variants_for(conn: Connection, rollout: Row[Any], names: Iterable[str], now_ns: int) -> dict[str, Variant]:
    """Device -> the variant that it gets of the rollout's version. The others of `names` are rejected."""
    release, order = _choice(conn, rollout)
    schema = WINDOWS_SCHEMA if grants_windows(plan_of(rollout)) else SCHEMA
    found, problems = dict[str, Variant](), dict[str, str]()
    for name, reported in reports(conn, names).items():
        variant, problem = fit(release, order, reported, schema)
        if variant is not None:
            found[name] = variant
        else:
            problems[name] = problem[:MAX_REASON]
    rows = ledger.rows_of(conn, rollout, problems) if problems else ()
    rejected = {"outcome": Outcome.REJECTED, "status": Status.ENDED, "finished_ns": now_ns, "measured": False}
    ledger.change(conn, rollout, [(row, {**rejected, "reason": problems[row.device]}) for row in rows], now_ns)
    return found


def reconsider(conn: Connection, rollout: Row[Any], now_ns: int) -> bool:
    """The next of those rejected here, before anything was sent, and heard of since. Does anybody wait again?"""
    names = conn.execute(_IN_TURN, {"rollout": rollout.id, "after": rollout.reconsidered_to}).scalars().all()
    last = names[-1] if len(names) == LOOKED_AT_ONCE else ""
    if last != rollout.reconsidered_to:
        conn.execute(update(rollouts).where(rollouts.c.id == rollout.id).values(reconsidered_to=last))
    return _reconsider(conn, rollout, names, now_ns)


def reconsider_all(conn: Connection, rollout: Row[Any], now_ns: int) -> bool:
    """The same of all of them, before the rollout ends."""
    names = conn.execute(_REJECTED, {"rollout": rollout.id}).scalars().all()
    return _reconsider(conn, rollout, names, now_ns)


def _reconsider(conn: Connection, rollout: Row[Any], rejected: Sequence[str], now_ns: int) -> bool:
    if not rejected:
        return False
    names = conn.execute(_HEARD_SINCE, {"rollout": rollout.id, "names": rejected}).scalars().all()
    if not names:
        return False
    rows = ledger.rows_of(conn, rollout, variants_for(conn, rollout, names, now_ns))
    waiting = {"outcome": None, "status": Status.WAITING, "reason": "", "finished_ns": None, "acknowledged": False}
    ledger.change(conn, rollout, [(row, waiting) for row in rows], now_ns)
    return bool(rows)


def _choice(conn: Connection, rollout: Row[Any]) -> tuple[Release, tuple[str, ...]]:
    here = (versions.c.model == rollout.model) & (versions.c.version == rollout.version)
    version = conn.execute(select(versions.c.release, versions.c.chosen).where(here)).one()
    release = releases.read(version.release)
    return release, preferred(release, version.chosen, rollout.plan["variant"])


def reports(conn: Connection, names: Iterable[str]) -> dict[str, Reported | None]:
    """What devices reported last; None = nothing yet, or nothing that this build can read."""
    rows = conn.execute(_REPORTS, {"names": sorted(names)})
    return {row.name: _read(row.reported) for row in rows}


def _read(reported: bytes | None) -> Reported | None:
    try:
        return decode(reported, Reported) if reported else None
    except WireError:
        return None
