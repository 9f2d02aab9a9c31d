"""One run of a scenario under one seed: the fleet comes up, the operator acts, things go wrong, and it is judged."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

from simulator.alarm import listening
from simulator.core.loop import SimulationError
from simulator.durations import nanoseconds
from simulator.faults.fault import Moment
from simulator.faults.inject import Injector
from simulator.federation import Federation
from simulator.fleet import Fleet
from simulator.judging import Judge
from simulator.observer import Observer
from simulator.operator import Operator
from simulator.report import Expectation, Mark, Report, RolloutReport
from simulator.scenario.document import Scenario
from simulator.scenario.expectations import Converged
from simulator.scenario.steps import AnyStep, Federate, RollOut, RotateKeys, Steering
from simulator.settlers import DAY_NS, Settlers, of_day_ns
from simulator.world import World
from wire.ports import SECOND

Progress = Callable[[str, int, int], None]
"""(what is going on, how many are done, of how many)"""
COMING_UP_S = 1_800
"""By then a fleet is up, whatever its networks; who is not by then is left behind."""
SETTLING_S = 600
"""So long is waited for hub and devices to agree where a scenario does not expect it."""
LASTING = ("lasts", "down", "off", "age")
"""Fields of faults that say how long they last."""
LOOK_SHARE = 0.01
"""Who waits looks again after this share of the time that he has waited, and at least a second."""


def _nothing(stage: str, done: int, total: int) -> None:
    """Nobody looks."""


class ScenarioRun:
    """A run. After `play`, `report` says what happened."""

    def __init__(self, scenario: Scenario, seed: int, progress: Progress | None = None, policy: str = "") -> None:
        self.world = World(seed)
        certificates = scenario.population.certificates
        self.fleet = Fleet(self.world, certificate_life_ns=nanoseconds(certificates) if certificates else 0)
        self.expectations: list[Expectation] = []
        self.rollouts: list[RolloutReport] = []
        self._scenario = scenario
        self._seed = seed
        self._policy = policy
        self._progress = progress or _nothing
        self._settlers = Settlers(self.fleet, scenario)
        self._operator = Operator(self.fleet, self._settlers, scenario)
        self._injector = Injector(self.fleet)
        self._observer = Observer(self.fleet)
        self._federation = Federation(self.fleet, self._observer)
        if any(isinstance(step, Federate) for step in scenario.timeline):
            self.fleet.hub.learning.load()
        self._judge = Judge(self.fleet, self._settlers, self._observer)
        self._carried: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._carried_s: dict[str, float] = {}
        self._marks: list[Mark] = []
        self._steps_left = len(scenario.timeline)
        self._faults_left = len(scenario.faults)

    def play(self) -> None:
        """Run to the end. Whatever stops the run early is an expectation that failed."""
        try:
            with listening(self.world.fail):
                self.world.loop.run(self._play())
        except SimulationError as error:
            self._expect("the run reaches its end", False, f"at {self.world.loop.time():.3f} s: {error}")
            self._look_back()

    def close(self) -> None:
        """Give the memory of its database back: nobody will look at it any more."""
        self.fleet.hub.store.close()

    def report(self, wall_s: float) -> Report:
        """What happened."""
        world = self.world
        return Report(
            scenario=self._scenario.title,
            policy=self._policy,
            seed=self._seed,
            devices=len(self.fleet.devices),
            passed=all(one.passed for one in self.expectations),
            expectations=tuple(self.expectations),
            rollouts=tuple(self.rollouts),
            marks=self._all_marks(),
            samples=self._observer.samples(),
            settled_s=self._judge.settled_s,
            virtual_s=world.loop.time(),
            wall_s=wall_s,
            events=world.loop.events,
            published=world.broker.publishes,
            delivered=world.broker.deliveries,
            transactions=self.fleet.hub.store.transactions,
            faults=self._count_faults(),
            digest=world.trace.digest,
            federated=self._federation.reports(),
        )

    # The story.

    async def _play(self) -> None:
        await self._come_up()
        self._observer.begin()
        self._settlers.begin()
        watching = asyncio.ensure_future(self._observer.watch())
        self.world.watch(watching)
        planning = [asyncio.ensure_future(self._plan(number)) for number in range(len(self._scenario.faults))]
        try:
            async with asyncio.timeout(nanoseconds(self._scenario.lasts) / SECOND):
                await self._act()
                await asyncio.gather(*planning)
                await self._until("coming to rest", self._resting)
        except TimeoutError:
            moving = [row.id for row in self._observer.rollouts() if row.state == "running"]
            moving += self._federation.under_way()
            said = f"{self._steps_left} steps and {self._faults_left} faults were left; still running: {moving}"
            self._expect(f"everything comes to rest within {self._scenario.lasts}", False, said)
        await self._settle()
        watching.cancel()
        self._observer.look()
        self._conclude()

    async def _come_up(self) -> None:
        await asyncio.sleep((of_day_ns(self._scenario.starts) - self.world.clock.now_ns()) % DAY_NS / SECOND)
        self.fleet.hub.start()
        await asyncio.sleep(1)
        await self._settlers.settle()
        total = len(self.fleet.devices)
        up = await self._until("coming up", lambda: (*self._settlers.present(), total), COMING_UP_S)
        count, _ = self._settlers.present()
        if not up:
            self._expect("the fleet comes up", False, f"{count} of {total} devices after {COMING_UP_S} s")

    async def _act(self) -> None:
        """Carry out the steps, in order, each not before its moment."""
        for step in self._scenario.timeline:
            await self._reach(step)
            await self._operator.carry_out(step)
            self._steps_left -= 1
            self._marks.append(Mark(at_s=self._observer.elapsed_s(), kind="step", what=_said(step)))
            self._carried_s[step.name] = self._observer.elapsed_s()
            self._carried[step.name].set()

    async def _plan(self, number: int) -> None:
        """Have a fault happen at its moment; return once it is over."""
        fault = self._scenario.faults[number]
        await self._reach(Moment(since=fault.since, after=fault.after))
        self._injector.plan(fault)
        spans = (fault.at, fault.within, *(getattr(fault, name, None) for name in LASTING))
        await asyncio.sleep(sum(nanoseconds(span) for span in spans if span) / SECOND)
        self._faults_left -= 1

    async def _reach(self, moment: Moment) -> None:
        """Return at the moment."""
        begin_s = 0.0
        if moment.since:
            await self._carried[moment.since].wait()
            begin_s = self._carried_s[moment.since]
        if moment.after:
            await self._carried[moment.after].wait()
            step = next(step for step in self._scenario.timeline if step.name == moment.after)
            about = _rollout_of(step)
            resting = partial(self._rollout_resting, about)
            if isinstance(step, Federate):
                about, resting = step.name, partial(self._federation.resting, step.name)
            await self._until(about, resting)
            begin_s = self._observer.elapsed_s()
        await asyncio.sleep(max(0.0, begin_s + nanoseconds(moment.at) / SECOND - self._observer.elapsed_s()))

    async def _settle(self) -> None:
        """Wait until hub and devices agree, for a while."""
        began_s = self._observer.elapsed_s()
        total = len(self.fleet.devices)
        limits = [nanoseconds(one.within) / SECOND for one in self._scenario.expect if isinstance(one, Converged)]
        if await self._until("settling", lambda: (*self._judge.agreeing(), total), max(limits, default=SETTLING_S)):
            self._judge.settled_s = self._observer.elapsed_s() - began_s

    def _conclude(self) -> None:
        """Look at everything that was expected, and whether everybody still has its model."""
        self.fleet.check()
        self._federation.check()
        self._look_back()
        self.expectations += [self._judge.judge(one) for one in self._scenario.expect]

    def _look_back(self) -> None:
        """Take down how the rollouts went."""
        for row in self._observer.rollouts():
            harmed = self._settlers.harmed(str(row.model), int(row.version))
            good = self._operator.good.get((row.model, row.version), True)
            self.rollouts.append(self._observer.report(row, harmed, good=good))

    # Waiting and looking.

    async def _until(
        self, stage: str, look: Callable[[], tuple[int, bool, int]], limit_s: float = float("inf")
    ) -> bool:
        """Wait until `look` -> (how many are done, is that all?, of how many) says so. Did it, in time?"""
        waited_s = 0.0
        while True:
            done, over, total = look()
            self._progress(stage, done, total)
            if over or waited_s >= limit_s:
                return over
            pause_s = max(1.0, waited_s * LOOK_SHARE)
            waited_s += pause_s
            await asyncio.sleep(pause_s)

    def _rollout_resting(self, rollout: str) -> tuple[int, bool, int]:
        progress = self._observer.progress(rollout)
        return progress.ended, progress.resting, progress.planned

    def _resting(self) -> tuple[int, bool, int]:
        progress = self._observer.progress()
        calm = not self._injector.pending and not self._federation.under_way()
        return progress.ended, progress.resting and calm, progress.planned

    def _count_faults(self) -> dict[str, int]:
        """Everything that went wrong, by kind."""
        fired = {kind: count for kind, count in sorted(self._injector.fired.items()) if kind != "power_cut"}
        return {**asdict(self.world.faults), "power_cuts": self.fleet.reboots, **fired}

    def _all_marks(self) -> tuple[Mark, ...]:
        fired = [
            Mark(at_s=self._observer.elapsed_s(at_ns), kind="fault", what=kind.replace("_", " "))
            for at_ns, kind in self._injector.fired_at
        ]
        return tuple(sorted([*self._marks, *fired], key=lambda mark: mark.at_s))

    def _expect(self, name: str, passed: bool, detail: str) -> None:
        self.expectations.append(Expectation(name=name, passed=passed, detail=detail))


def _rollout_of(step: AnyStep) -> str:
    if isinstance(step, RollOut):
        return step.name
    return step.rollout if isinstance(step, Steering) else ""


def _said(step: AnyStep) -> str:
    """A step in a few words."""
    if isinstance(step, Federate):
        return f"federate {step.name}"
    words = [str(step.__struct_config__.tag).replace("_", " "), _rollout_of(step)]
    words += [" ".join(step.keys)] if isinstance(step, RotateKeys) else []
    return " ".join(word for word in words if word)
