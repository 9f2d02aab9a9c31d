"""Whatever devices report, and in whatever order: a rollout keeps its promises."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.core import rollout as core
from cloud.core.gates import Gates, passed
from cloud.core.rollout import Assign, Expire, Halt, Member, Plan, StartWave, Succeed, Wave
from wire.messages import Outcome

WAVE = st.one_of(
    st.builds(Wave, count=st.integers(1, 12)), st.builds(Wave, percent=st.floats(0.5, 100, allow_nan=False))
)
GATES = st.builds(
    Gates,
    commit_rate=st.sampled_from([0.0, 0.5, 0.8, 1.0]),
    golden_agreement=st.sampled_from([0.0, 1.0]),
    minimum_sample=st.integers(1, 4),
)
PLANS = st.builds(Plan, waves=st.lists(WAVE, min_size=1, max_size=4).map(tuple), gates=GATES)
OUTCOMES = st.sampled_from([None, Outcome.SUCCEEDED, Outcome.SUCCEEDED, Outcome.SUCCEEDED, *Outcome])


class Fleet:
    """A rollout carried out in memory: what `cloud.service.rollouts` does, without the database."""

    def __init__(self, plan: Plan, size: int) -> None:
        names = [f"d{number:02}" for number in range(size)]
        waves = core.partition("r", plan.waves, names)
        self.plan = plan
        self.members = {name: Member(name, wave) for name, wave in waves.items()}
        self.wave = 0
        self.now_ns = 1
        self.over = ""
        self.assigned_after_end = False

    def evaluate(self) -> None:
        """Until there is nothing to decide; checks every decision against the facts it was made on."""
        for _ in range(50):
            facts = tuple(self.members.values())
            decisions = core.evaluate(self.plan, self.wave, facts, self.now_ns)
            if not decisions:
                return
            for decision in decisions:
                self.check(decision, facts)
                self.carry_out(decision)
            if self.over:
                return
        raise AssertionError("the rollout does not come to rest")

    def check(self, decision: core.Decision, facts: tuple[Member, ...]) -> None:
        """The invariants."""
        match decision:
            case StartWave(wave):
                assert wave == self.wave + 1
                assert passed(core.verdicts(self.plan, facts, self.wave))
            case Assign(_, names):
                assert all(self.members[name].wave <= self.wave for name in names)
                assert all(self.members[name].assigned_ns is None for name in names)
            case Succeed():
                assert self.wave == len(self.plan.waves) - 1
                assert all(member.outcome is not None for member in facts)

    def carry_out(self, decision: core.Decision) -> None:
        """Apply."""
        match decision:
            case StartWave(wave):
                self.wave = wave
            case Assign(_, names):
                for name in names:
                    self.members[name] = replace(self.members[name], assigned_ns=self.now_ns)
            case Expire(names):
                for name in names:
                    self.members[name] = replace(self.members[name], outcome=Outcome.TIMED_OUT)
            case Halt() | Succeed():
                self.over = type(decision).__name__

    def report(self, name: str, outcome: Outcome | None) -> None:
        """A device that has been assigned says how it went."""
        member = self.members.get(name)
        if member is not None and member.assigned_ns is not None and outcome is not None:
            golden = 32 if outcome is Outcome.SUCCEEDED else 0
            self.members[name] = replace(member, outcome=outcome, golden_matched=golden, golden_total=golden)


@settings(max_examples=150, deadline=None)
@given(PLANS, st.integers(1, 20), st.data())
def test_waves_open_in_order_and_only_behind_their_gates(plan: Plan, size: int, data: st.DataObject) -> None:
    """At no moment has more been assigned than the open waves allow; a halted rollout assigns nobody."""
    fleet = Fleet(plan, size)
    bounds = core.targets(plan.waves, size)
    for _ in range(data.draw(st.integers(1, 12))):
        if not fleet.over:
            fleet.evaluate()
        assigned = sum(member.assigned_ns is not None for member in fleet.members.values())
        assert assigned <= bounds[fleet.wave]
        if fleet.over:
            break
        name = data.draw(st.sampled_from(sorted(fleet.members)))
        fleet.report(name, data.draw(OUTCOMES))
        fleet.now_ns += data.draw(st.sampled_from([1, 10**9, 10**12]))


@settings(max_examples=100, deadline=None)
@given(PLANS, st.integers(1, 20))
def test_a_fleet_that_only_succeeds_is_reached_as_planned(plan: Plan, size: int) -> None:
    """Every device of the last target commits, and the rollout says so."""
    fleet = Fleet(plan, size)
    for _ in range(len(plan.waves) + 1):
        fleet.evaluate()
        for name in sorted(fleet.members):
            fleet.report(name, Outcome.SUCCEEDED)
    fleet.evaluate()
    assert fleet.over == "Succeed"
    committed = sum(member.outcome is Outcome.SUCCEEDED for member in fleet.members.values())
    assert committed == core.targets(plan.waves, size)[-1]


@given(st.lists(st.sampled_from([f"d{number}" for number in range(40)]), min_size=1, unique=True), st.data())
def test_places_do_not_depend_on_the_order_of_joining(names: list[str], data: st.DataObject) -> None:
    """Shuffling the fleet moves nobody."""
    waves = (Wave(count=1), Wave(percent=25), Wave(percent=100))
    shuffled = data.draw(st.permutations(names))
    assert core.partition("r", waves, names) == core.partition("r", waves, shuffled)


def test_one_then_a_quarter_then_all() -> None:
    """The demo's waves over twenty devices: 1, 4 more, 15 more."""
    waves = core.partition("r", (Wave(count=1), Wave(percent=25), Wave(percent=100)), [f"d{n}" for n in range(20)])
    assert [list(waves.values()).count(index) for index in range(3)] == [1, 4, 15]


def test_a_late_joiner_never_lands_in_a_wave_that_is_past() -> None:
    """It waits for the gates of the wave that is open."""
    plan = Plan((Wave(percent=10), Wave(percent=50), Wave(percent=100)))
    joined = {core.late_joiner("r", plan, 20, 1, f"new{n}") for n in range(200)}
    assert joined == {1, 2}


def test_failures_that_were_acknowledged_halt_no_more() -> None:
    """Resume acknowledges what has been seen; the next failure halts again."""
    plan = Plan((Wave(percent=100),))
    seen = Member("a", 0, 1, Outcome.ROLLED_BACK, acknowledged=True)
    fine = Member("b", 0, 1, Outcome.SUCCEEDED, golden_matched=32, golden_total=32)
    assert core.evaluate(plan, 0, (seen, fine), 2) == (Succeed(),)
    decision = core.evaluate(plan, 0, (seen, fine, replace(seen, device="c", acknowledged=False)), 2)
    assert isinstance(decision[0], Halt)
    assert "wave 1: gate commit_rate" in decision[0].reason


def test_silence_ends_an_execution() -> None:
    """A device that says nothing is timed out after its total time and the grace, not before."""
    plan = Plan((Wave(percent=100),), total_timeout_s=10)
    waiting = (Member("a", 0, assigned_ns=0),)
    assert core.evaluate(plan, 0, waiting, int(39.9e9)) == ()
    assert core.evaluate(plan, 0, waiting, int(40e9)) == (Expire(("a",)),)
