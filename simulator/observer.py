"""Looks on while a scenario runs: whether its rollouts are at rest, how far they are, and samples for the report."""

import asyncio
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Row, func, select

from cloud.core.rollout import RolloutState
from cloud.tables import ENROLLED, devices, members, rollout_waves, rollouts
from simulator.fleet import Fleet
from simulator.report import Curve, RolloutReport, Samples
from wire.messages import Outcome
from wire.ports import SECOND

MOST_SAMPLES = 240
"""Kept at a time: when there are more, every second one goes and the pauses double."""
MOST_REASONS = 5
MOST_POINTS = 200
"""Points of a curve."""

_LATE = devices.c.reported_sequence < devices.c.desired_sequence
_PRESENT_AND_LATE = select(func.count().filter(devices.c.online), func.count().filter(_LATE)).where(ENROLLED)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rollout is: devices that ended, devices planned, and is anything still moving?"""

    ended: int
    planned: int
    resting: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the fleet."""

    at_ns: int
    online: int
    agreeing: float
    device_bytes: float
    hub_bytes: int


class Observer:
    """Counts time from `begin` on."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._begin_ns = 0
        self._epoch_ns = 0
        self._samples: list[Sample] = []
        self._pause_s = 1

    def begin(self) -> None:
        """The scenario starts now."""
        self._begin_ns = self._fleet.world.clock.monotonic_ns()
        self._epoch_ns = self._fleet.world.clock.now_ns()

    def elapsed_s(self, at_ns: int | None = None) -> float:
        """Seconds from the start until now, or until a moment of the virtual clock."""
        at_ns = self._fleet.world.clock.monotonic_ns() if at_ns is None else at_ns
        return (at_ns - self._begin_ns) / SECOND

    async def watch(self) -> None:
        """Take samples for ever."""
        while True:
            self.look()
            if len(self._samples) > MOST_SAMPLES:
                self._samples = self._samples[::2]
                self._pause_s *= 2
            await asyncio.sleep(self._pause_s)

    def look(self) -> None:
        """Take one sample."""
        fleet = self._fleet
        online, late = fleet.hub.look(lambda conn: conn.execute(_PRESENT_AND_LATE).one())
        total = sum(device.network.up_bytes + device.network.down_bytes for device in fleet.devices)
        count = max(1, len(fleet.devices))
        now_ns = fleet.world.clock.monotonic_ns()
        self._samples.append(Sample(now_ns, online, 1 - late / count, total / count, fleet.hub.traffic_bytes))

    def progress(self, rollout: str | None = None) -> Progress:
        """Of one rollout and what reverts it, or of all."""
        mine = (
            rollouts.c.id.is_not(None)
            if rollout is None
            else (rollouts.c.id == rollout) | (rollouts.c.reverts == rollout)
        )
        moving = select(func.count()).select_from(rollouts).where(mine, rollouts.c.state == RolloutState.RUNNING)
        waves = rollout_waves.c
        sums = (
            select(func.sum(waves.in_flight), func.sum(waves.committed + waves.failed), func.sum(waves.planned))
            .join(rollouts, rollouts.c.id == waves.rollout)
            .where(mine)
        )
        running, (in_flight, ended, planned) = self._fleet.hub.look(
            lambda conn: (conn.execute(moving).scalar_one(), conn.execute(sums).one())
        )
        return Progress(ended or 0, planned or 0, running == 0 and not in_flight)

    def rows(self, rollout: str) -> list[Row[tuple[object, ...]]]:
        """Its members, by name."""
        query = select(members).where(members.c.rollout == rollout).order_by(members.c.device)
        return self._fleet.hub.look(lambda conn: list(conn.execute(query)))

    def rollouts(self) -> list[Row[tuple[object, ...]]]:
        """All rollouts, as they began."""
        query = select(rollouts).order_by(rollouts.c.created_ns, rollouts.c.id)
        return self._fleet.hub.look(lambda conn: list(conn.execute(query)))

    def samples(self) -> Samples:
        """Everything measured."""
        return Samples(
            at_s=tuple(self.elapsed_s(one.at_ns) for one in self._samples),
            online=tuple(one.online for one in self._samples),
            agreeing=tuple(one.agreeing for one in self._samples),
            device_bytes=tuple(one.device_bytes for one in self._samples),
            hub_bytes=tuple(one.hub_bytes for one in self._samples),
        )

    def report(self, row: Row[tuple[object, ...]], harmed: Collection[str], *, good: bool) -> RolloutReport:
        """One rollout. `harmed`: devices on which its version misbehaves."""
        rows = self.rows(row.id)
        ended = [one for one in rows if one.outcome is not None]
        assigned = [one for one in rows if one.assigned_ns is not None]
        committed = [one for one in ended if one.outcome == Outcome.SUCCEEDED]
        outcomes = Counter(str(one.outcome) for one in ended)
        reasons = Counter(str(one.reason) for one in ended if one.outcome != Outcome.SUCCEEDED and one.reason)
        rest_ns = row.updated_ns if row.state != RolloutState.RUNNING else self._fleet.world.clock.now_ns()
        return RolloutReport(
            name=row.id,
            model=row.model,
            version=row.version,
            good=good,
            state=row.state,
            reason=row.reason,
            waves_opened=row.wave + 1,
            planned=len(rows),
            assigned=len(assigned),
            committed=len(committed),
            failed=len(ended) - len(committed),
            harmed=sum(one.device in harmed for one in assigned),
            began_s=self.since(row.created_ns),
            seconds=(rest_ns - row.created_ns) / SECOND,
            outcomes=dict(outcomes),
            reasons=dict(reasons.most_common(MOST_REASONS)),
            exposure=self._curve([one.assigned_ns for one in assigned]),
            commits=self._curve([one.finished_ns for one in committed]),
        )

    def _curve(self, moments: list[int]) -> Curve:
        """How many were so far, thinned to what a plot can show."""
        times = sorted(moments)
        step = max(1, len(times) // MOST_POINTS)
        numbers = sorted({*range(step - 1, len(times), step), len(times) - 1} - {-1})
        return Curve(
            at_s=tuple(self.since(times[number]) for number in numbers),
            values=tuple(float(number + 1) for number in numbers),
        )

    def since(self, wall_ns: int) -> float:
        """Seconds from the start until a moment of the hub's wall clock."""
        return (wall_ns - self._epoch_ns) / SECOND
