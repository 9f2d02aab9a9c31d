"""What the hub's tables say against what the devices did: the difference is what was lost or done twice."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from bench.mosquitto_devices import RealDevice
from cloud.tables import audit, members, slots, stats
from wire.messages import Outcome


@dataclass(frozen=True, slots=True)
class Balance:
    """How many were lost, how many came twice."""

    lost: int
    doubled: int


def balance(conn: Connection, agents: Sequence[RealDevice], rollouts: int, newest: int) -> Balance:
    """After `rollouts` to all `agents`, the last one of version `newest`, while nobody predicts any more."""
    outcomes = conn.execute(select(members.c.outcome)).scalars().all()
    runs = conn.execute(select(slots.c.version)).scalars().all()
    missing = uncounted(conn, agents)
    tried = [count for agent in agents for count in agent.installer.tried.values()]
    lost = rollouts * len(agents) - sum(one == Outcome.SUCCEEDED for one in outcomes)
    lost += sum(version != newest for version in runs) + sum(max(0, one) for one in missing)
    often = [*assignments(conn).values(), *waves(conn).values(), *tried]
    doubled = sum(count - 1 for count in often if count > 1) + sum(max(0, -one) for one in missing)
    return Balance(lost, doubled)


def uncounted(conn: Connection, agents: Sequence[RealDevice]) -> list[int]:
    """Device by device: predictions that it made and the hub has not counted."""
    known: Counter[str] = Counter()
    for row in conn.execute(select(stats.c.device, stats.c.predictions)):
        known[row.device] += row.predictions
    return [agent.predictions - known[agent.claim.device] for agent in agents]


def assignments(conn: Connection) -> Counter[tuple[str, str]]:
    """(rollout, device) -> how often it was assigned."""
    rows = conn.execute(select(audit.c.subject, audit.c.detail).where(audit.c.action == "rollout.assign"))
    return Counter((row.subject, device) for row in rows for device in row.detail["devices"])


def waves(conn: Connection) -> Counter[tuple[str, int]]:
    """(rollout, wave) -> how often it was started."""
    rows = conn.execute(select(audit.c.subject, audit.c.detail).where(audit.c.action == "rollout.wave"))
    return Counter((row.subject, row.detail["wave"]) for row in rows)
