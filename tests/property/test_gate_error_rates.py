"""The declared error rates, measured: looked at after every device, over many seeded fleets."""

import numpy as np
import pytest

from cloud.core.gates.evidence import NONE, SCALE, Sample
from cloud.core.gates.judge import Gate, Rule, Tally, Undecided, judge, refusal, rules
from cloud.core.gates.sequential import Decision, Errors, mean_test, ratio_test

FLEETS = 400
DEVICES = 400
ERRORS = Errors(0.05, 0.05)
SLACK = 2.33 * (0.05 * 0.95 / FLEETS) ** 0.5
"""One seeded run in a hundred would exceed it by chance."""


def test_proportions_keep_their_rates() -> None:
    """At the edges of what is good and bad, peeking after every device."""
    rng = np.random.default_rng(1)
    for truth, wrong in ((0.97, Decision.REFUSED), (0.92, Decision.PASSED)):
        drawn = np.cumsum(rng.random((FLEETS, DEVICES)) < truth, axis=1)
        errors = 0
        for fleet in drawn:
            for n in range(1, DEVICES + 1):
                found = ratio_test(int(fleet[n - 1]), n - int(fleet[n - 1]), 0.97, 0.92, ERRORS).decision
                if found is not Decision.UNDECIDED:
                    errors += found is wrong
                    break
        assert errors / FLEETS <= 0.05 + SLACK


@pytest.mark.parametrize(("good", "bad", "error"), [(0.97, 0.92, 0.05), (0.95, 0.9, 0.01), (0.99, 0.95, 0.02)])
def test_the_declared_chance_of_a_false_halt_is_used_up(good: float, bad: float, error: float) -> None:
    """Computed device by device for a version that is just good: what is left unused is paid for in devices."""
    halted, going, least = 0.0, np.ones(1), 0  # by failures so far; the least number of them that refuses
    for n in range(1, 6000):
        going = np.append(going * good, 0.0) + np.append(0.0, going * (1 - good))
        while ratio_test(n - least, least, good, bad, Errors(error, 0.05)).decision is not Decision.REFUSED:
            least += 1
        halted, going = halted + going[least:].sum(), going[:least]
    assert 0.85 * error < halted <= error


def test_a_rollout_of_many_waves_keeps_its_rate() -> None:
    """Every open wave is suspected by itself, after every failure: together they halt no oftener than declared."""
    rng = np.random.default_rng(4)
    (rule,) = rules((Gate("commit_rate >= 92 %", 0.1, 0.05, 0.05, undecided=Undecided.PROCEED),))
    halts = sum(_halts(rule, rng.random((6, 60)) < 0.97) for _ in range(FLEETS))
    assert halts / FLEETS <= 0.1 + 2**0.5 * SLACK


def _halts(rule: Rule, committed: np.ndarray) -> bool:
    """Row by row: the devices of each wave, in the order in which they end."""
    waves: list[Tally] = []
    for wave in committed:
        waves.append(Tally(len(wave), 0, 0, NONE))
        for good in wave:
            waves[-1] += Tally(0, 1, int(good), Sample(1, SCALE * int(good), SCALE * SCALE * int(good)))
            if not good and refusal([judge(rule, waves, index, len(committed)) for index in range(len(waves))]):
                return True
    return False


@pytest.mark.parametrize("shape", ["normal", "uniform", "skewed", "heavy"])
def test_means_keep_their_rates(shape: str) -> None:
    """For bell curves, flat, lopsided and heavy-tailed differences alike, from the tenth device on."""
    rng = np.random.default_rng(2)
    draw = {
        "normal": lambda: rng.normal(0, 0.06, DEVICES),
        "uniform": lambda: rng.uniform(-0.1, 0.1, DEVICES),
        "skewed": lambda: rng.exponential(0.06, DEVICES) - 0.06,
        "heavy": lambda: 0.04 * rng.standard_t(4, DEVICES),
    }[shape]
    for truth, wrong in ((-0.03, Decision.REFUSED), (0.0, Decision.PASSED)):
        errors = sum(_first(draw() + truth) is wrong for _ in range(FLEETS))
        assert errors / FLEETS <= 0.05 + SLACK


def _first(values: np.ndarray) -> Decision:
    """The first decision of a gate that looks after every device."""
    total, squares = np.cumsum(values), np.cumsum(values**2)
    for n in range(10, len(values) + 1):
        mean = total[n - 1] / n
        deviation = max(0.0075, max(0.0, (squares[n - 1] - n * mean * mean) / (n - 1)) ** 0.5)
        found = mean_test(n, float(mean), float(deviation), 0.03, ERRORS).decision
        if found is not Decision.UNDECIDED:
            return found
    return Decision.UNDECIDED


def test_the_order_of_reports_does_not_matter() -> None:
    """Evidence is counts and sums: the same devices give the same verdict in any order."""
    (rule,) = rules((Gate("accuracy >= previous(accuracy) - 3 points"),))
    rng = np.random.default_rng(3)
    values = [round(float(one) * SCALE) for one in rng.normal(-0.03, 0.05, 60)]
    found = set()
    for _ in range(5):
        rng.shuffle(values)
        sample = Sample()
        for one in values:
            sample += Sample(1, one, one * one)
        found.add(str(judge(rule, [Tally(60, 60, 60, sample)], 0, 1)))
    assert len(found) == 1
