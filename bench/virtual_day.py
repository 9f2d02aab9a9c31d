"""One run of `bench sim-virtual`, in a process of its own: a fleet that has enrolled long ago lives for some hours.

Every device starts, gets one version through a staged rollout, a bounded number of them under way at a time, and shows
that it is there. The digest covers every message; the promises (nobody without his model, hub and devices
agree) are looked at as time goes on. The one line that this program prints is what it found.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import func, select

from bench.phases import sampled, shares
from cloud.core.rollout import Plan, RolloutState, Wave
from cloud.service.parts import Intervals
from cloud.service.rollouts import NewRollout
from cloud.tables import devices, members, rollout_waves, rollouts, slots
from edge_agent.bootstrap import AgentPolicy
from simulator.alarm import listening
from simulator.core.network import Quality
from simulator.fleet import Fleet, Size
from simulator.main import quiet_programs
from simulator.version import random_files
from simulator.world import World
from wire.ports import MILLISECOND, SECOND

MODEL: Final = "simulated"
SLOT: Final = "main"
MODEL_BYTES: Final = 130_000
WAVES: Final = (Wave(percent=1), Wave(percent=10), Wave(percent=50), Wave(percent=100))
QUALITY: Final = Quality(loss=0.01, duplication=0.01, delay_max_ns=80 * MILLISECOND)
DISK_TURN_EVERY: Final = 8
ROLLOUT_AFTER_S: Final = 120
ROLLOUT_LIMIT_S: Final = 4 * 3600
EARLIER_DEVICES: Final = 2
LOOK_EVERY_S: Final = 5
SWEEP_EVERY_S: Final = 3600
MISSED_HEARTBEATS: Final = 3
"""After so many, the hub takes a device for gone: its own default, too."""
LOOKS_PER_SILENCE: Final = 12
"""As the hub's defaults have it."""


@dataclass(frozen=True, slots=True)
class Day:
    """What is run. `hours` 0: until the rollout has ended. `before`: a seed that has a short run here first."""

    devices: int
    hours: float
    heartbeat_s: float
    seed: int
    collect_every: int
    in_flight: int
    """Devices that the plan lets be under way at a time."""
    before: int | None = None

    @classmethod
    def parse(cls, line: str) -> "Day":
        """From the one argument, JSON."""
        return cls(**json.loads(line))


class Life:
    """The fleet through its day."""

    def __init__(self, day: Day) -> None:
        self.world = World(day.seed, collect_every=day.collect_every)
        silence_s = MISSED_HEARTBEATS * day.heartbeat_s
        intervals = Intervals(silence_s=silence_s, presence_s=silence_s / LOOKS_PER_SILENCE)
        self.fleet = Fleet(self.world, intervals)
        self.rollout_s = 0.0
        self.under_way = 0
        """The most devices that were under way at any look."""
        self._day = day

    async def whole(self) -> None:
        """Start, roll out, go on until the end."""
        day, clock = self._day, self.world.clock
        policy = AgentPolicy(day.heartbeat_s)
        await self.fleet.start(
            Size(day.devices, QUALITY, enrolled=True, policy=policy, disk_turn_every=DISK_TURN_EVERY)
        )
        await clock.sleep(ROLLOUT_AFTER_S * SECOND)
        await self._roll_out()
        self.fleet.check()
        end_ns = int(day.hours * 3600 * SECOND)
        while (left_ns := end_ns - clock.monotonic_ns()) > 0:
            await clock.sleep(min(left_ns, SWEEP_EVERY_S * SECOND))
            self.fleet.check()

    async def _roll_out(self) -> None:
        hub, clock = self.fleet.hub, self.world.clock
        began_ns = clock.monotonic_ns()
        release = await hub.publish_version(MODEL, random_files(self.world.rng.child("version"), MODEL_BYTES))
        plan = Plan(waves=WAVES, max_in_flight=self._day.in_flight)
        await hub.roll_out(NewRollout("r1", MODEL, release.version, SLOT, {}, None, plan))
        while self._state() == RolloutState.RUNNING and clock.monotonic_ns() - began_ns < ROLLOUT_LIMIT_S * SECOND:
            await clock.sleep(LOOK_EVERY_S * SECOND)
            self.under_way = max(self.under_way, self._under_way())
        self.rollout_s = (clock.monotonic_ns() - began_ns) / SECOND

    def _state(self) -> str:
        query = select(rollouts.c.state).where(rollouts.c.id == "r1")
        return str(self.fleet.hub.look(lambda conn: conn.execute(query).scalar_one()))

    def _under_way(self) -> int:
        query = select(func.coalesce(func.sum(rollout_waves.c.in_flight), 0))
        return int(self.fleet.hub.look(lambda conn: conn.execute(query).scalar_one()))

    def problems(self) -> list[str]:
        """What is not as it should be at the end."""
        count = self._day.devices
        running = select(func.count()).select_from(slots).where(slots.c.version == 1)
        here = select(func.count()).select_from(devices).where(devices.c.online)
        ended = select(members.c.outcome, func.count()).group_by(members.c.outcome)
        look: Callable[[Any], Any] = lambda query: self.fleet.hub.look(lambda conn: conn.execute(query).all())  # noqa: E731
        found = {
            "the rollout is": (self._state(), "succeeded"),
            "more devices under way at a time than the plan lets:": (self.under_way > self._day.in_flight, False),
            "devices that the hub knows to run it:": (look(running)[0][0], count),
            "devices that the hub knows to be there:": (look(here)[0][0], count),
            "outcomes:": ([tuple(row) for row in look(ended)], [("succeeded", count)]),
            "devices that hold it:": (sum(one.current(SLOT) is not None for one in self.fleet.devices), count),
            "attempts to reach beyond access rights:": (self.world.broker.refused, []),
        }
        return [f"{what} {is_} (expected: {expected})" for what, (is_, expected) in found.items() if is_ != expected]


def live(day: Day) -> dict[str, Any]:
    """The figures of one run."""
    life = Life(day)
    world, began, cpu = life.world, time.perf_counter(), time.process_time()
    with quiet_programs(), listening(world.fail), sampled() as counts:
        world.loop.run(life.whole())
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    broker = world.broker
    return {
        "virtual_s": round(world.loop.time(), 3),
        "rollout_s": life.rollout_s,
        "under_way": life.under_way,
        "wall_s": round(wall_s, 2),
        "cpu_s": round(cpu_s, 2),
        "speedup": round(world.loop.time() / wall_s, 1),
        "events": world.loop.events,
        "events_per_s": round(world.loop.events / wall_s),
        "events_per_device": round(world.loop.events / day.devices, 1),
        "messages": {"published": broker.publishes, "delivered": broker.deliveries},
        "transactions": life.fleet.hub.store.transactions,
        "phase_s": shares(counts, cpu_s),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "digest": world.trace.digest,
        "problems": life.problems(),
    }


def main(day: Day) -> None:
    """Run the day, after a short one of another seed if that is asked for."""
    if day.before is not None:
        live(replace(day, devices=EARLIER_DEVICES, hours=0.0, seed=day.before))
    print(json.dumps(live(day)), flush=True)


if __name__ == "__main__":
    main(Day.parse(sys.argv[1]))
