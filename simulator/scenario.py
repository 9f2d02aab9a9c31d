"""The built-in story: a fleet enrols, version 1 goes out to everybody, then version 2, while network and power fail.

With a bad share, version 2 fails its golden vectors on that part of the fleet: the gate has to halt the rollout, nobody
beyond the open wave may have been assigned, and whoever failed still runs version 1.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Row, func, select

from cloud.core.rollout import Plan, RolloutState, Wave
from cloud.service.rollouts import NewRollout
from cloud.tables import ENROLLED, devices, members, rollouts, slots
from simulator.alarm import listening
from simulator.core.loop import SimulationError
from simulator.core.network import Quality
from simulator.fleet import Fleet, Size
from simulator.report import Expectation, Report, RolloutReport, count_faults
from simulator.version import random_files
from simulator.world import World
from wire.messages import Outcome
from wire.ports import MILLISECOND, SECOND

MODEL = "simulated"
SLOT = "main"
MODEL_BYTES = 130_000
WAVES = (Wave(count=1), Wave(percent=25), Wave(percent=100))
INSTALL_OPERATIONS = 90
"""About as many disk operations as an installation has; power cuts are spread over them."""
RECONNECTS_WITHIN_S = 60
ENROL_LIMIT_S = 1_200
ROLLOUT_LIMIT_S = 3_600
SETTLE_LIMIT_S = 600

Progress = Callable[[str, int, int], None]
"""(what is going on, how many are done, of how many)"""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the fleet has to live with. Shares are 0..1."""

    devices: int = 50
    seed: int = 1
    loss: float = 0.02
    duplication: float = 0.02
    reboots: int = 10
    reconnects: int = 10
    kills: int = 2
    bad_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Harm:
    """How often what fails during one rollout."""

    reboots: int
    reconnects: int
    kills: int


class Story:
    """One run of the story under given conditions."""

    def __init__(self, conditions: Conditions, progress: Progress) -> None:
        self.world = World(conditions.seed)
        self.fleet = Fleet(self.world)
        self.expectations: list[Expectation] = []
        self.rollouts: list[RolloutReport] = []
        self._conditions = conditions
        self._progress = progress

    def play(self) -> None:
        """Run to the end. Whatever stops the run early is an expectation that failed."""
        try:
            with listening(self.world.fail):
                self.world.loop.run(self._play())
        except SimulationError as error:
            self._expect("the run reaches its end", False, f"at {self.world.loop.time():.3f} s: {error}")

    def report(self, wall_s: float) -> Report:
        """What happened."""
        return Report(
            seed=self._conditions.seed,
            devices=self._conditions.devices,
            passed=all(one.passed for one in self.expectations),
            expectations=tuple(self.expectations),
            rollouts=tuple(self.rollouts),
            virtual_s=self.world.loop.time(),
            wall_s=wall_s,
            events=self.world.loop.events,
            published=self.world.broker.publishes,
            delivered=self.world.broker.deliveries,
            transactions=self.fleet.hub.store.transactions,
            faults=count_faults(self.fleet),
            digest=self.world.trace.digest,
        )

    async def _play(self) -> None:
        here = self._conditions
        quality = Quality(here.loss, here.duplication, delay_max_ns=80 * MILLISECOND)
        await self.fleet.start(Size(here.devices, quality))
        await self._until("enrolling", self._enrolled, ENROL_LIMIT_S)
        half = Harm(here.reboots // 2, here.reconnects // 2, here.kills // 2)
        first = await self._roll_out(half, bad_share=0.0)
        if not self._expect_success(1, first):
            return
        rest = Harm(here.reboots - half.reboots, here.reconnects - half.reconnects, here.kills - half.kills)
        second = await self._roll_out(rest, bad_share=here.bad_share)
        if here.bad_share > 0:
            self._expect_halt(second)
        else:
            self._expect_success(2, second)
        await self._expect_agreement()
        refused = self.fleet.world.broker.refused
        self._expect("nobody reaches beyond its access rights", not refused, "; ".join(refused[:3]) or "no refusals")

    async def _roll_out(self, harm: Harm, *, bad_share: float) -> RolloutReport:
        """Publish the next version, roll it out and wait until nothing moves any more."""
        hub, fleet = self.fleet.hub, self.fleet
        number = len(self.rollouts) + 1
        files = random_files(self.world.rng.child(f"version {number}"), MODEL_BYTES)
        release = await hub.publish_version(MODEL, files)
        self._spoil(release.variants[0].file.sha256, bad_share)
        fleet.plan_reboots(harm.reboots, INSTALL_OPERATIONS)
        fleet.plan_reconnects(harm.reconnects, RECONNECTS_WITHIN_S)
        fleet.plan_kills(harm.kills)
        rollout, began_ns = f"rollout-{number}", self.world.clock.monotonic_ns()
        plan = Plan(waves=WAVES)
        await hub.roll_out(NewRollout(rollout, MODEL, release.version, SLOT, {}, None, plan))
        await self._until(f"version {number}", lambda: self._settled(rollout), ROLLOUT_LIMIT_S)
        self.fleet.check()
        report = self._rollout_report(rollout, (self.world.clock.monotonic_ns() - began_ns) / SECOND)
        self.rollouts.append(report)
        return report

    def _spoil(self, sha256: str, share: float) -> None:
        """Let the model fail on `share` of the devices, rounded up."""
        unlucky = list(self.fleet.devices)
        self.world.rng.child("unlucky").shuffle(unlucky)
        for device in unlucky[: math.ceil(share * len(unlucky))]:
            device.unfit.add(sha256)

    # Looking.

    async def _until(self, what: str, done: Callable[[], tuple[int, bool]], limit_s: int) -> None:
        """Wait for `done` -> (how many devices are, is that all?); what does not get there in time is judged later."""
        for _ in range(limit_s):
            count, over = done()
            self._progress(what, count, self._conditions.devices)
            if over:
                return
            await asyncio.sleep(1)

    def _enrolled(self) -> tuple[int, bool]:
        query = select(func.count()).select_from(devices).where(ENROLLED, devices.c.online)
        count = self.fleet.hub.look(lambda conn: conn.execute(query).scalar_one())
        return count, count == self._conditions.devices

    def _settled(self, rollout: str) -> tuple[int, bool]:
        state = self.fleet.hub.look(
            lambda conn: conn.execute(select(rollouts.c.state).where(rollouts.c.id == rollout)).scalar_one()
        )
        rows = self._members(rollout)
        under_way = any(row.assigned_ns is not None and row.outcome is None for row in rows)
        ended = sum(row.outcome is not None for row in rows)
        return ended, state != RolloutState.RUNNING and not under_way

    def _members(self, rollout: str) -> list[Row[tuple[object, ...]]]:
        query = select(members).where(members.c.rollout == rollout).order_by(members.c.device)
        return self.fleet.hub.look(lambda conn: list(conn.execute(query)))

    def _failed(self, rollout: str) -> list[Row[tuple[object, ...]]]:
        return [row for row in self._members(rollout) if row.outcome not in (None, Outcome.SUCCEEDED)]

    def _rollout_report(self, rollout: str, seconds: float) -> RolloutReport:
        row = self.fleet.hub.look(lambda conn: conn.execute(select(rollouts).where(rollouts.c.id == rollout)).one())
        rows = self._members(rollout)
        ended = [one for one in rows if one.outcome is not None]
        committed = sum(one.outcome == Outcome.SUCCEEDED for one in ended)
        return RolloutReport(
            version=row.version,
            state=row.state,
            reason=row.reason,
            waves_opened=row.wave + 1,
            assigned=sum(one.assigned_ns is not None for one in rows),
            committed=committed,
            failed=len(ended) - committed,
            seconds=seconds,
        )

    def _versions_on_devices(self) -> dict[str, int]:
        """Device -> the version that its own disk says is committed; 0: none."""
        found = {device.name: device.current(SLOT) for device in self.fleet.devices}
        return {name: deployed.installed.version if deployed else 0 for name, deployed in found.items()}

    # Judging.

    def _expect(self, name: str, passed: bool, detail: str) -> None:
        self.expectations.append(Expectation(name=name, passed=passed, detail=detail))

    def _expect_success(self, version: int, report: RolloutReport) -> bool:
        versions = self._versions_on_devices()
        there = sum(one == version for one in versions.values())
        failed = [f"{row.device} {row.outcome}: {row.reason}" for row in self._failed(f"rollout-{version}")]
        detail = f"rollout {report.state}, {there} of {len(versions)} devices have it on their disks"
        detail = "; ".join([detail, *failed[:3]])
        passed = report.state == RolloutState.SUCCEEDED and there == report.committed == len(versions)
        self._expect(f"every device commits version {version}", passed, detail)
        return passed

    def _expect_halt(self, report: RolloutReport) -> None:
        versions = self._versions_on_devices()
        rows = self._members("rollout-2")
        halted = report.state == RolloutState.HALTED
        self._expect("the gate halts version 2", halted, f"{report.state}: {report.reason}")
        beyond = [row.device for row in rows if row.wave >= report.waves_opened and row.assigned_ns is not None]
        self._expect(
            "nobody beyond the open wave is assigned", not beyond, f"{report.assigned} of {len(rows)} were assigned"
        )
        committed = {row.device for row in rows if row.outcome == Outcome.SUCCEEDED}
        unfit = {device.name for device in self.fleet.devices if device.unfit}
        caught = not unfit & committed
        self._expect("no device commits a model that fails there", caught, f"{len(unfit)} devices cannot run it")
        wrong = [name for name, version in versions.items() if version != (2 if name in committed else 1)]
        self._expect(
            "whoever did not commit version 2 still runs version 1",
            not wrong,
            f"{len(versions) - len(committed)} devices on version 1" if not wrong else f"wrong: {', '.join(wrong[:5])}",
        )

    async def _expect_agreement(self) -> None:
        """After a while, the hub's database says of every device what is true of it."""
        await self._until("settling", self._agreeing, SETTLE_LIMIT_S)
        count, agreed = self._agreeing()
        self._expect("hub and devices agree on what runs", agreed, f"{count} of {self._conditions.devices} do")

    def _agreeing(self) -> tuple[int, bool]:
        query = select(slots.c.device, slots.c.version).where(slots.c.slot == SLOT).order_by(slots.c.device)
        reported = self.fleet.hub.look(lambda conn: {row.device: row.version for row in conn.execute(query)})
        actual = self._versions_on_devices()
        count = sum(reported.get(name) == version for name, version in actual.items())
        return count, count == len(actual)
