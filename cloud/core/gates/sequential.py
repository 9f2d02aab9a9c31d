"""Decisions that may be looked at after every report and keep their error rates.

*Proportions*: Wald's sequential probability ratio test (Annals of Mathematical Statistics 16, 1945) of a good rate
against a bad one. It passes at its error rate and refuses at `boundary.refuse_from`: the chance that the ratio ever
gets there when it should not is at most the declared rate, whenever one looks and whenever one stops.

*Means*: the one-sided asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (Annals of
Statistics 52, 2024, proposition B.1), built from count, mean and variance, so that it depends on no order of arrival
and can be kept as counters. Its error rate is a limit for large samples; so none is decided on fewer than 10 devices
unless its gate says so, and the deviation counts for more while n is small. `tests/property/test_gate_error_rates.py`
measures what that leaves: at most the declared rates, up to differences as lopsided as an exponential distribution.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cloud.core.gates.boundary import refuse_from

TUNED_FOR: Final = 50
"""Sample size at which the confidence sequence is tightest."""

CORRECTION: Final = 50.0
"""A deviation estimated from n devices is too small now and then; it is taken 1 + CORRECTION / n^1.5 times."""


class Decision(StrEnum):
    """What the evidence says. The strings are persisted and never change."""

    UNDECIDED = "undecided"
    PASSED = "passed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Errors:
    """Declared chances: of refusing what is good (`false_halt`), of passing what is bad (`missed_halt`)."""

    false_halt: float
    missed_halt: float


@dataclass(frozen=True, slots=True)
class Finding:
    """A decision, and the two figures it was made by with what they were held against."""

    decision: Decision
    statistics: dict[str, float]


def ratio_test(successes: int, failures: int, good: float, bad: float, errors: Errors) -> Finding:
    """Is the chance of success at least `good`, or at most `bad` (< good)? Between them either answer is right."""
    ratio = _times(successes, bad / good) + _times(failures, (1 - bad) / (1 - good) if good < 1 else math.inf)
    upper, lower = refuse_from(good, bad, errors.false_halt), math.log(errors.missed_halt)
    decision = Decision.REFUSED if ratio >= upper else Decision.PASSED if ratio <= lower else Decision.UNDECIDED
    shown = min(ratio, 1e9)  # JSON has no infinity
    return Finding(decision, {"log_ratio": shown, "refused_from": upper, "passed_to": lower, "good": good, "bad": bad})


def _times(count: int, odds: float) -> float:
    """`count` observations of these odds, as a logarithm; what was never observed says nothing, not even infinity."""
    return count * math.log(odds) if count and odds > 0 else (-math.inf if count else 0.0)


def mean_test(n: int, mean: float, deviation: float, margin: float, errors: Errors) -> Finding:
    """`mean` is of badness: 0 is where bad begins, -`margin` where good ends. Refused, passed, or not yet known?

    `deviation` is of one observation; `n` the (effective) number of observations.
    """
    deviation *= 1 + CORRECTION / n**1.5
    lowest = mean - deviation * _half_width(n, errors.false_halt)
    highest = mean + deviation * _half_width(n, errors.missed_halt)
    refused, passed = lowest > -margin, highest < 0
    decision = Decision.PASSED if passed else Decision.REFUSED if refused else Decision.UNDECIDED
    figures = {"badness": mean, "at_least": lowest, "at_most": highest, "good_to": -margin, "deviation": deviation}
    return Finding(decision, figures)


def _half_width(n: int, error: float) -> float:
    """One-sided, in deviations of one observation."""
    spread = -2 * math.log(2 * min(error, 0.15))
    rho2 = (spread + math.log(spread) + 1) / TUNED_FOR
    grown = n * rho2 + 1
    return math.sqrt(2 * grown / (n * n * rho2) * math.log1p(math.sqrt(grown) / (2 * error)))
