"""Loads what a device's twin is made of, and the sums over the fleet."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from cloud.core import twin as core
from cloud.core.presence import GRACE_NS, Standing, standing
from cloud.errors import UnknownError
from cloud.service.director import assignment_in
from cloud.tables import ENROLLED, desired, devices
from wire.codec import decode
from wire.errors import WireError
from wire.messages import Reported


@dataclass(frozen=True, slots=True)
class Twin:
    """One device. Sequences are of assignments: the newest one, and the newest that the device accepted."""

    device: str
    presence: Standing
    gone_ns: int | None
    agent: str
    skew: core.Skew
    desired_sequence: int
    accepted_sequence: int
    slots: tuple[core.SlotTwin, ...]


@dataclass(frozen=True, slots=True)
class AgentCount:
    """How many devices of the fleet run one version of the agent."""

    agent: str
    speaks: int
    skew: core.Skew
    devices: int


def load(conn: Connection, device: str, now_ns: int) -> Twin:
    """The twin of a device. Raises UnknownError."""
    query = select(devices, desired.c.envelope)
    query = query.join(desired, desired.c.device == devices.c.name, isouter=True).where(devices.c.name == device)
    row = conn.execute(query).one_or_none()
    if row is None:
        raise UnknownError(f"there is no device {device!r}")
    wanted = None if row.envelope is None else assignment_in(row.envelope)
    return Twin(
        device=device,
        presence=standing(row.online, row.gone_ns, now_ns),
        gone_ns=row.gone_ns,
        agent=row.agent,
        skew=core.skew(row.speaks),
        desired_sequence=row.desired_sequence,
        accepted_sequence=row.reported_sequence,
        slots=core.compare(wanted, _read(row.reported)),
    )


def presence_counts(conn: Connection, now_ns: int) -> dict[Standing, int]:
    """How many devices of the fleet are there."""
    recently = devices.c.gone_ns > now_ns - GRACE_NS
    totals = conn.execute(
        select(
            func.count().label("all"),
            func.count().filter(devices.c.online).label("online"),
            func.count().filter(~devices.c.online, recently).label("away"),
        )
        .select_from(devices)
        .where(ENROLLED)
    ).one()
    gone = totals.all - totals.online - totals.away
    return {Standing.ONLINE: totals.online, Standing.AWAY: totals.away, Standing.OFFLINE: gone}


def agents(conn: Connection) -> tuple[AgentCount, ...]:
    """Which versions of the agent the fleet runs, the most frequent first."""
    query = select(devices.c.agent, devices.c.speaks, func.count().label("number")).where(ENROLLED)
    rows = conn.execute(query.group_by(devices.c.agent, devices.c.speaks))
    counted = [AgentCount(row.agent, row.speaks, core.skew(row.speaks), row.number) for row in rows]
    return tuple(sorted(counted, key=lambda one: (-one.devices, one.agent, one.speaks)))


def _read(reported: bytes | None) -> Reported | None:
    try:
        return None if reported is None else decode(reported, Reported)
    except WireError:
        return None
