"""Whatever is ordered, reported and commanded, and in whatever order: a rollout keeps its promises."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cloud.core.gates.judge import Gate, Undecided, rules
from cloud.core.rollout import Command, Plan, RolloutState, Wave, machine
from cloud.core.rollout.machine import SECOND, Assign, AwaitApproval, Candidate, Expire, Facts, Halt, StartWave, Succeed
from cloud.core.rollout.members import Member, Status, count, empty
from cloud.core.rollout.plan import Disruption, Rate, Retry
from cloud.core.rollout.retry import next_try_ns
from cloud.core.rollout.states import ADVANCING, COMMANDS
from cloud.core.rollout.waves import late_joiner, partition, place, targets
from wire.messages import Outcome

WAVE = st.builds(
    Wave,
    percent=st.floats(5, 100, allow_nan=False),
    approval=st.booleans(),
    soak_s=st.sampled_from([0.0, 0.0, 50.0]),
) | st.builds(Wave, count=st.integers(1, 12))
GATE = st.builds(
    Gate,
    st.sampled_from(
        [
            "commit_rate >= 100 %",
            "commit_rate >= 80 %",
            "commit_rate >= 0 %",
            "golden_agreement >= 100 %",
            "latency_ms <= 1.2 * previous(latency_ms)",
            "accuracy >= control(accuracy) - 3 points",
        ]
    ),
    minimum_sample=st.sampled_from([None, 3]),
    undecided=st.sampled_from(Undecided),
)
PLANS = st.builds(
    Plan,
    waves=st.lists(WAVE, min_size=1, max_size=4).map(tuple),
    gates=st.lists(GATE, max_size=2).map(tuple),
    evidence_timeout_s=st.just(300.0),
    rate=st.none() | st.builds(Rate, st.integers(1, 90), st.sampled_from([1.0, 2.0]), st.integers(1, 3), st.just(120)),
    max_in_flight=st.none() | st.integers(1, 5),
    disruption=st.none() | st.builds(Disruption, st.just("site"), st.integers(1, 2)),
    retry=st.builds(Retry, attempts=st.integers(1, 3), delay_s=st.just(30.0), budget=st.integers(0, 4)),
)
FAILURES = [one for one in Outcome if one not in (Outcome.SUCCEEDED, Outcome.CANCELLED)]


class World:
    """A rollout carried out in memory: what `cloud.service.rollouts` does, without the database."""

    def __init__(self, plan: Plan, size: int) -> None:
        fleet = {f"d{number:02}": {"site": f"s{number % 3}"} for number in range(size)}
        waves = partition("r", plan.waves, fleet)
        self.plan, self.rules = plan, rules(plan.gates)
        self.members = {name: self.newcomer(name, wave) for name, wave in waves.items()}
        self.wave, self.approved, self.retries, self.now_ns = 0, 0, 0, SECOND
        self.state, self.reason = RolloutState.RUNNING, ""
        self.ended_ns = [0] * len(plan.waves)
        self.assigned_ns: list[int] = []
        self.assigned_at: dict[str, int] = {}

    def newcomer(self, name: str, wave: int) -> Member:
        """With the label group that it has."""
        site = f"s{int(name[1:]) % 3}" if self.plan.disruption else ""
        return Member(name, wave, place("r", name), site)

    def facts(self) -> Facts:
        """Counted from scratch."""
        waiting = [one for one in self.of(Status.WAITING) if one.wave <= self.wave and one.due_ns <= self.now_ns]
        counted = count(self.members.values(), self.rules)
        ordered = sorted(waiting, key=lambda one: (one.wave, one.place))
        return Facts(
            state=self.state,
            wave=self.wave,
            waves=tuple(counted.get(wave, empty(self.rules)) for wave in range(len(self.plan.waves))),
            ended_ns=tuple(self.ended_ns),
            approved=self.approved,
            overdue=tuple(one.device for one in self.of(Status.IN_FLIGHT) if one.due_ns <= self.now_ns),
            candidates=tuple(Candidate(one.device, one.place, one.group) for one in ordered),
            unavailable=Counter(one.group for one in self.of(Status.IN_FLIGHT)),
            recent_minute=sum(one > self.now_ns - 60 * SECOND for one in self.assigned_ns),
            recent_second=sum(one > self.now_ns - SECOND for one in self.assigned_ns),
        )

    def of(self, status: Status) -> list[Member]:
        """Members that are so far."""
        return [one for one in self.members.values() if one.status is status]

    def tick(self) -> bool:
        """Until there is nothing to decide; did anything happen?"""
        happened = False
        for _ in range(200):
            if self.state not in ADVANCING:
                return happened
            facts = self.facts()
            decisions = machine.evaluate(self.plan, facts, self.now_ns)
            if not decisions:
                return happened
            happened = True
            for decision in decisions:
                self.check(decision, facts)
                self.carry_out(decision)
        raise AssertionError("the rollout does not come to rest")

    def check(self, decision: machine.Decision, facts: Facts) -> None:
        """Errors before successes, no gate skipped, nothing exceeded."""
        breach = machine.breach(self.plan, facts)
        match decision:
            case StartWave(wave) | AwaitApproval(wave):
                assert not breach
                assert wave == self.wave + 1
                assert all(one.passed for one in machine.verdicts(self.plan, facts, self.wave))
                assert facts.waves[self.wave].waiting == 0
                if isinstance(decision, StartWave) and self.plan.waves[wave].approval:
                    assert self.approved >= wave
            case Assign(names):
                assert not breach
                assert self.state is RolloutState.RUNNING
                assert names
                assert all(self.members[name].status is Status.WAITING for name in names)
                assert all(self.members[name].due_ns <= self.now_ns for name in names)
                assert all(self.members[name].wave <= self.wave for name in names)
            case Succeed():
                assert not breach
                assert self.wave == len(self.plan.waves) - 1
                assert all(one.status is Status.ENDED for one in self.members.values())
            case Halt():
                news = [one for one in self.of(Status.ENDED) if not one.acknowledged]
                assert news, "what a person has seen halts it no more"

    def carry_out(self, decision: machine.Decision) -> None:
        """Apply."""
        match decision:
            case StartWave(wave):
                self.wave, self.state = wave, RolloutState.RUNNING
            case AwaitApproval():
                self.state = RolloutState.WAITING
            case Assign(names):
                due_ns = machine.overdue_ns(self.plan, self.now_ns)
                for name in names:
                    self.members[name] = replace(self.members[name], status=Status.IN_FLIGHT, due_ns=due_ns)
                    self.assigned_at[name] = self.now_ns
                self.assigned_ns += [self.now_ns] * len(names)
            case Expire(names):
                for name in names:
                    self.settle(name, Outcome.TIMED_OUT)
            case Halt(reason):
                self.state, self.reason = RolloutState.HALTED, reason
            case Succeed():
                self.state = RolloutState.SUCCEEDED

    def settle(self, name: str, outcome: Outcome, **measured: Any) -> None:
        """As `service.rollouts.outcomes`."""
        member = self.members[name]
        goes_on = self.state in ADVANCING | {RolloutState.PAUSED}
        again = next_try_ns(self.plan, outcome, member.attempt, self.retries, self.now_ns) if goes_on else None
        if again is not None:
            self.retries += 1
            self.members[name] = replace(
                member, status=Status.WAITING, outcome=None, attempt=member.attempt + 1, due_ns=again
            )
            return
        self.members[name] = replace(member, status=Status.ENDED, outcome=outcome, acknowledged=False, **measured)
        self.ended_ns[member.wave] = self.now_ns

    def command(self, command: Command) -> None:
        """As `service.rollouts.orders`; what the state does not allow is refused there."""
        target = COMMANDS.get((self.state, command))
        if target is None:
            return
        if command is Command.APPROVE:
            self.approved = self.wave + 1
        if command is Command.RESUME:
            halted = self.state is RolloutState.HALTED
            for name, one in self.members.items():
                if one.status is Status.ENDED and (halted or one.outcome is not Outcome.SUCCEEDED):
                    self.members[name] = replace(one, acknowledged=True)
        if target is RolloutState.ABORTED:
            for one in self.of(Status.WAITING):
                self.members[one.device] = replace(one, status=Status.ENDED, outcome=Outcome.CANCELLED)
        self.state = target


class RolloutMachine(RuleBasedStateMachine):
    """Any plan, any order of events."""

    @initialize(plan=PLANS, size=st.integers(1, 16))
    def start(self, plan: Plan, size: int) -> None:
        """A rollout begins."""
        self.world = World(plan, size)
        self.final: tuple[RolloutState, int] | None = None

    @rule(seconds=st.sampled_from([0, 1, 1, 20, 61, 700]))
    def tick(self, seconds: int) -> None:
        """Time passes and the hub looks."""
        self.world.now_ns += seconds * SECOND
        self.world.tick()

    @rule(ticks=st.integers(2, 40))
    def tick_every_second(self, ticks: int) -> None:
        """The hub looks again and again."""
        for _ in range(ticks):
            self.world.now_ns += SECOND
            self.world.tick()

    @precondition(lambda self: self.world.of(Status.IN_FLIGHT))
    @rule(data=st.data(), good=st.booleans())
    def report(self, data: st.DataObject, good: bool) -> None:
        """A device says how it went."""
        name = data.draw(st.sampled_from(sorted(one.device for one in self.world.of(Status.IN_FLIGHT))))
        if not good:
            self.world.settle(name, data.draw(st.sampled_from(FAILURES)))
            return
        now = {"latency_ms": data.draw(st.sampled_from([5.0, 6.5])), "accuracy": data.draw(st.sampled_from([0.8, 0.7]))}
        golden = {"golden_matched": data.draw(st.sampled_from([32, 32, 31])), "golden_total": 32}
        self.world.settle(name, Outcome.SUCCEEDED, now=now, before={"latency_ms": 5.0}, **golden)

    @rule(command=st.sampled_from(Command))
    def command(self, command: Command) -> None:
        """Somebody says something."""
        if command not in (Command.ABORT, Command.REVERT) or len(self.world.assigned_ns) > 3:
            self.world.command(command)

    @precondition(lambda self: self.world.state in ADVANCING)
    @rule(number=st.integers(20, 60))
    def join(self, number: int) -> None:
        """A device that was not there at the start."""
        name = f"d{number:02}"
        wave = late_joiner("r", self.world.plan, self.world.wave, name, {})
        if wave is not None and name not in self.world.members:
            assert wave >= self.world.wave
            self.world.members[name] = self.world.newcomer(name, wave)

    @invariant()
    def never_exceeds(self) -> None:
        """Rate, concurrency, label groups, retry budget."""
        world, plan = self.world, self.world.plan
        flying = world.of(Status.IN_FLIGHT)
        assert plan.max_in_flight is None or len(flying) <= plan.max_in_flight
        if plan.disruption is not None:
            assert max(Counter(one.group for one in flying).values(), default=0) <= plan.disruption.max_unavailable
        assert world.retries <= plan.retry.budget
        assert all(one.attempt <= plan.retry.attempts for one in world.members.values())
        if plan.rate is not None:
            committed = sum(one.outcome is Outcome.SUCCEEDED for one in world.members.values())
            most = machine.per_minute(plan, committed)
            for at in world.assigned_ns:
                assert sum(at <= one < at + 60 * SECOND for one in world.assigned_ns) <= (most or 0)

    @invariant()
    def a_finished_one_stays_as_it_is(self) -> None:
        """Neither time nor reports nor commands change it, and it asks nobody any more."""
        now = (self.world.state, len(self.world.assigned_ns))
        if self.final is not None:
            assert now == self.final
        elif self.world.state in (RolloutState.ABORTED, RolloutState.SUCCEEDED):
            self.final = now

    def teardown(self) -> None:
        """Nothing is stranded: with silence and time alone, every rollout ends, or waits for a person."""
        if not hasattr(self, "world"):
            return
        for _ in range(400):
            self.world.now_ns += 61 * SECOND
            self.world.tick()
            if self.world.state not in ADVANCING or self.world.state is RolloutState.WAITING:
                break
        assert self.world.state is not RolloutState.RUNNING, "stranded"
        assert self.world.state is not RolloutState.HALTED or self.world.reason


RolloutMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)
TestRolloutMachine = pytest.mark.timeout(200)(RolloutMachine.TestCase)


@settings(max_examples=60, deadline=None)
@given(PLANS, st.integers(1, 20))
def test_a_fleet_that_only_succeeds_is_reached_as_planned(plan: Plan, size: int) -> None:
    """Every device of the last target commits, and the rollout says so."""
    world = World(replace(plan, gates=(Gate("commit_rate >= 100 %"),)), size)
    for _ in range(size * 70 + 50):
        world.now_ns += SECOND
        world.tick()
        world.command(Command.APPROVE)
        for one in world.of(Status.IN_FLIGHT):
            world.settle(one.device, Outcome.SUCCEEDED)
        if world.state is RolloutState.SUCCEEDED:
            break
    else:
        world.now_ns += 1000 * SECOND
        world.tick()
    assert world.state is RolloutState.SUCCEEDED
    assert len(world.members) == targets(plan.waves, size)[-1]
    assert {one.outcome for one in world.members.values()} == {Outcome.SUCCEEDED}


@settings(deadline=None)
@given(st.lists(st.sampled_from([f"d{number}" for number in range(40)]), min_size=1, unique=True), st.data())
def test_places_do_not_depend_on_the_order_of_joining(names: list[str], data: st.DataObject) -> None:
    """Shuffling the fleet moves nobody."""
    waves = (Wave(count=1), Wave(percent=25), Wave(percent=100))
    shuffled = data.draw(st.permutations(names))
    assert partition("r", waves, {name: {} for name in names}) == partition("r", waves, {name: {} for name in shuffled})


def test_one_then_a_quarter_then_all() -> None:
    """The demo's waves over twenty devices: 1, 4 more, 15 more."""
    waves = partition("r", (Wave(count=1), Wave(percent=25), Wave(percent=100)), {f"d{n}": {} for n in range(20)})
    assert [list(waves.values()).count(index) for index in range(3)] == [1, 4, 15]


def test_a_wave_takes_its_devices_from_its_selector() -> None:
    """First half of one site, then everybody."""
    fleet = {f"d{n}": {"site": "a" if n < 10 else "b"} for n in range(20)}
    waves = partition("r", (Wave(percent=50, selector={"site": "a"}), Wave(percent=100)), fleet)
    first = [name for name, wave in waves.items() if wave == 0]
    assert (len(first), len(waves)) == (5, 20)
    assert all(fleet[name]["site"] == "a" for name in first)


def test_a_late_joiner_never_lands_in_a_wave_that_is_past() -> None:
    """It waits for the gates of the wave that is open."""
    plan = Plan((Wave(percent=10), Wave(percent=50), Wave(percent=100)))
    assert {late_joiner("r", plan, 1, f"new{n}", {}) for n in range(200)} == {1, 2}


def test_failures_that_were_acknowledged_halt_no_more() -> None:
    """Resume acknowledges what has been seen; the next failure halts again."""
    world = World(Plan((Wave(percent=100),), (Gate("commit_rate >= 100 %"),)), 3)
    world.tick()
    world.settle("d00", Outcome.ROLLED_BACK)
    world.tick()
    assert (world.state, world.reason[:27]) == (RolloutState.HALTED, "wave 1: gate commit_rate >=")
    world.command(Command.RESUME)
    assert not world.tick()
    world.settle("d01", Outcome.ROLLED_BACK)
    world.tick()
    assert world.state is RolloutState.HALTED


def test_silence_ends_an_execution() -> None:
    """A device that says nothing is timed out after its total time and the grace, not before."""
    world = World(Plan((Wave(percent=100),), total_timeout_s=10), 1)
    world.tick()
    world.now_ns += int(39.9e9)
    assert not world.tick()
    world.now_ns += int(0.1e9)
    world.tick()
    assert world.members["d00"].outcome is Outcome.TIMED_OUT


def test_the_rate_grows_with_what_committed() -> None:
    """50 a minute, doubled every 1,000, up to 400."""
    plan = Plan((Wave(percent=100),), rate=Rate(50, 2.0, 1000, 400))
    assert [machine.per_minute(plan, done) for done in (0, 999, 1000, 2000, 3000, 10**6)] == [
        50,
        50,
        100,
        200,
        400,
        400,
    ]
