"""A gate refuses, passes or waits; errors before successes, over two denominators."""

from collections.abc import Sequence

import pytest

from cloud.core.gates.evidence import NONE, Sample, observe, observe_control
from cloud.core.gates.judge import Gate, Tally, Undecided, Verdict, judge, rules
from cloud.core.gates.sequential import Decision


def of_rate(gate: Gate, planned: int, committed: int, failed: int) -> Verdict:
    """A wave in which so many ended."""
    (rule,) = rules((gate,))
    now = [{"commit_rate": 1.0}] * committed + [{"commit_rate": 0.0}] * failed
    sample = sum((observe(rule.comparison, one, {}) for one in now), NONE)
    tally = Tally(planned, committed + failed, committed, sample)
    return judge(rule, [tally], 0, 1)


def of_pairs(gate: Gate, pairs: Sequence[tuple[float, float]], fact: str) -> Verdict:
    """Devices that all committed, with what they measured after and before."""
    (rule,) = rules((gate,))
    sample = sum((observe(rule.comparison, {fact: now}, {fact: before}) for now, before in pairs), NONE)
    tally = Tally(len(pairs), len(pairs), len(pairs), sample)
    return judge(rule, [tally], 0, 1)


def test_where_nothing_may_fail_the_first_failure_decides() -> None:
    """A canary of one included."""
    verdict = of_rate(Gate("commit_rate >= 100 %"), 1, 0, 1)
    assert verdict.decision is Decision.REFUSED
    assert "0 of 1 committed, 1 of 1 completed executions failed" in verdict.text


def test_ten_failures_of_ten_halt_however_large_the_wave_is() -> None:
    """Of those that have ended, not of all that are planned."""
    assert of_rate(Gate("commit_rate >= 95 %"), 1000, 0, 10).decision is Decision.REFUSED


def test_a_wave_that_cannot_reach_its_gate_any_more_is_refused() -> None:
    """The second denominator: 3 of 20 planned failed, though the test would wait for more. Unless it may proceed."""
    verdict = of_rate(Gate("commit_rate >= 90 %"), 20, 12, 3)
    assert verdict.decision is Decision.REFUSED
    assert verdict.text == "3 of 20 planned executions failed, at most 2 may"
    assert of_rate(Gate("commit_rate >= 90 %", undecided=Undecided.PROCEED), 20, 12, 3).decision is Decision.UNDECIDED


def test_a_good_past_does_not_cover_a_bad_wave() -> None:
    """300 that committed before do not outweigh 18 of 20 that fail now."""
    (rule,) = rules((Gate("commit_rate >= 90 %"),))

    def tally(planned: int, committed: int, failed: int) -> Tally:
        now = [{"commit_rate": 1.0}] * committed + [{"commit_rate": 0.0}] * failed
        sample = sum((observe(rule.comparison, one, {}) for one in now), NONE)
        return Tally(planned, committed + failed, committed, sample)

    assert judge(rule, [tally(300, 300, 0), tally(20, 2, 18)], 1, 2).decision is Decision.REFUSED
    assert judge(rule, [tally(300, 300, 0), tally(20, 18, 2)], 1, 2).decision is Decision.PASSED


def test_a_small_sample_decides_nothing() -> None:
    """Below the minimum the rates are of nobody's interest."""
    gate = Gate("commit_rate >= 90 %", minimum_sample=5)
    assert of_rate(gate, 100, 0, 4).decision is Decision.UNDECIDED
    assert of_rate(gate, 100, 0, 5).decision is Decision.REFUSED


def test_a_wave_that_is_over_goes_on_by_its_own_figures() -> None:
    """Nobody can ask five devices for the certainty of fifty."""
    assert not of_rate(Gate("commit_rate >= 80 %"), 5, 4, 0).passed
    over = of_rate(Gate("commit_rate >= 80 %"), 5, 4, 1)
    assert (over.decision, over.passed) == (Decision.UNDECIDED, True)


def test_enough_successes_pass_before_the_wave_is_over() -> None:
    """Stragglers hold nobody up."""
    verdict = of_rate(Gate("commit_rate >= 90 %"), 1000, 200, 1)
    assert (verdict.decision, verdict.passed) == (Decision.PASSED, True)


def test_a_gate_at_zero_asks_for_nothing() -> None:
    """Whatever fails."""
    assert of_rate(Gate("commit_rate >= 0 %"), 100, 0, 100).decision is Decision.PASSED


def test_one_golden_vector_that_differs_is_one_too_many() -> None:
    """Where 100 % is asked for, a device is good or bad."""
    (rule,) = rules((Gate("golden_agreement >= 100 %"),))
    sample = sum((observe(rule.comparison, {"golden_agreement": one}, {}) for one in (1.0, 63 / 64)), NONE)
    tally = Tally(2, 2, 2, sample)
    assert judge(rule, [tally], 0, 1).decision is Decision.REFUSED
    nothing = Tally(2, 2, 2, NONE)
    assert not judge(rule, [nothing], 0, 1).passed, "devices that committed without golden outputs prove nothing"


def test_a_device_is_compared_with_itself() -> None:
    """Slow devices and quick ones: each against what it was."""
    gate = Gate("latency_ms <= 1.2 * previous(latency_ms)")
    speeds = [1.0, 5.0, 9.0, 80.0, 2.0, 30.0, 400.0, 3.0, 7.0, 11.0] * 4
    slower = [(speed * (1.28 + 0.01 * (index % 5)), speed) for index, speed in enumerate(speeds)]
    same = [(speed * (0.98 + 0.01 * (index % 5)), speed) for index, speed in enumerate(speeds)]
    refused, passed = (of_pairs(gate, pairs, "latency_ms") for pairs in (slower, same))
    assert (refused.decision, passed.decision) == (Decision.REFUSED, Decision.PASSED)
    assert refused.value == pytest.approx(1.3, abs=0.01)


def test_without_figures_a_mean_waits() -> None:
    """A device without a previous version shows nothing, and the wave does not go on."""
    (rule,) = rules((Gate("accuracy >= previous(accuracy) - 3 points"),))
    assert observe(rule.comparison, {"accuracy": 0.9}, {}) == NONE
    verdict = judge(rule, [Tally(9, 9, 9, NONE)], 0, 1)
    assert (verdict.decision, verdict.passed, verdict.value) == (Decision.UNDECIDED, False, None)


def test_a_control_group_takes_away_what_changed_for_all() -> None:
    """Everybody became slower on that day: no fault of the new version."""
    (rule,) = rules((Gate("latency_ms <= 1.2 * control(latency_ms)"),))
    tried = [observe(rule.comparison, {"latency_ms": 10 + index % 3}, {"latency_ms": 5}) for index in range(60)]
    control = [observe_control(rule.comparison, {"latency_ms": 10 + index % 3}) for index in range(60)]
    quick = [observe_control(rule.comparison, {"latency_ms": 5 + index % 3}) for index in range(60)]

    def decide(group: list[Sample]) -> Decision:
        tally = Tally(60, 60, 60, sum(tried, NONE), sum(group, NONE))
        return judge(rule, [tally], 0, 1).decision

    assert decide(control) is Decision.PASSED
    assert decide(quick) is Decision.REFUSED
    assert decide([]) is Decision.UNDECIDED


def test_evidence_adds_up_without_rounding() -> None:
    """Taking away what was added leaves exactly nothing."""
    (rule,) = rules((Gate("accuracy >= previous(accuracy) - 3 points"),))
    many = [observe(rule.comparison, {"accuracy": 0.1 * n / 7}, {"accuracy": 0.3 / (n + 1)}) for n in range(100)]
    total = sum(many, NONE)
    for one in many[::-1]:
        total -= one
    assert total == NONE
