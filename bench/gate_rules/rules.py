"""Three ways to halt a rollout, looked at every minute of the same timeline: our gates, and two fixed thresholds.

The fixed rules know failed devices only. So a device counts as failed when it did not commit, or when its own figure
misses the limit that our gate has for the fleet. Their thresholds are not ours to choose: `calibrate` gives each the
one with the fewest devices exposed among those that keep the false-halt rate on other seeds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.gate_rules.fleets import LESS_ACCURATE, SLOWER, Fleet
from bench.gate_rules.timeline import Timeline
from cloud.core.gates.evidence import NONE, Sample, observe
from cloud.core.gates.judge import Gate, Rule, Tally, Undecided, Verdict, judge, refusal, rules

MOST = 0.05
"""False halts that are allowed."""
Errors = np.ndarray
"""Which devices count as failed."""
Halted = Callable[[Timeline, Errors], int | None]
"""A fixed rule: the minute at which it halts, or None."""


def gates(kinds: Sequence[str], false_halt: float) -> tuple[Gate, ...]:
    """Our gates for these kinds of regression, each with this chance of a false halt."""
    expressions = {
        "commit": "commit_rate >= 92 %",
        "latency": f"latency_ms <= {SLOWER} * previous(latency_ms)",
        "accuracy": f"accuracy >= previous(accuracy) - {100 * LESS_ACCURATE:g} points",
    }
    apart = {"commit": 0.05}
    return tuple(
        Gate(expressions[kind], false_halt, 0.05, apart.get(kind), undecided=Undecided.PROCEED) for kind in kinds
    )


def errors_of(fleet: Fleet, kind: str) -> Errors:
    """Devices that a fixed rule would call failed."""
    worse = {
        "commit": np.zeros_like(fleet.committed),
        "latency": fleet.latency_ms > SLOWER * fleet.latency_before_ms,
        "accuracy": fleet.accuracy < fleet.accuracy_before - LESS_ACCURATE,
    }[kind]
    failed: np.ndarray = ~fleet.committed | worse
    return failed


def ours(fleet: Fleet, line: Timeline, asked: tuple[Gate, ...]) -> int | None:
    """The minute at which the hub's own code halts."""
    reported = np.argsort(line.ended, kind="stable")
    watched = [(rule, [Tally(size, 0, 0, NONE) for size in line.sizes]) for rule in rules(asked)]
    at = 0
    for minute in line.minutes():
        while at < len(reported) and line.ended[reported[at]] <= minute:
            device = int(reported[at])
            wave, committed = int(line.wave[device]), int(fleet.committed[device])
            for rule, tallies in watched:
                tallies[wave] += Tally(0, 1, committed, _observed(rule, fleet, device))
            at += 1
        if refusal(_verdicts(watched, 1 + int(line.wave[line.asked <= minute].max()))):
            return minute
    return None


def hawkbit(percent: float) -> Halted:
    """Errors above `percent` of the whole group halt; every group has the same threshold."""

    def halted(line: Timeline, errors: Errors) -> int | None:
        for minute in line.minutes():
            failed = np.bincount(line.wave[errors & (line.ended <= minute)], minlength=len(line.sizes))
            if any(failed > percent / 100 * np.array(line.sizes)):
                return minute
        return None

    return halted


def aws(percent: float, least: int) -> Halted:
    """At least `percent` of the completed executions failed, once `least` have completed."""

    def halted(line: Timeline, errors: Errors) -> int | None:
        ended = np.sort(line.ended)
        failed = np.sort(line.ended[errors])
        for minute in line.minutes():
            completed = int(np.searchsorted(ended, minute, "right"))
            bad = int(np.searchsorted(failed, minute, "right"))
            if completed >= least and bad >= percent / 100 * completed:
                return minute
        return None

    return halted


@dataclass(frozen=True)
class Result:
    """How a rule did."""

    false_halt_rate: float
    missed_halt_rate: float
    median_exposed: float
    mean_exposed: float


Case = tuple[Timeline, Errors]
"""A fleet as fixed rules see it."""


def rate(rule: Halted, good: Sequence[Case], bad: Sequence[Case]) -> Result:
    """Over fleets with a good version and fleets with a bad one."""
    false = sum(rule(*case) is not None for case in good) / len(good)
    ends = [(case[0], rule(*case)) for case in bad]
    return summary(false, ends)


def summary(false: float, ends: Sequence[tuple[Timeline, int | None]]) -> Result:
    """`ends`: what became of the fleets with a bad version."""
    exposed = [line.exposed(minute) if minute is not None else len(line.asked) for line, minute in ends]
    missed = sum(minute is None for _, minute in ends) / len(ends)
    return Result(round(false, 4), round(missed, 4), float(np.median(exposed)), round(float(np.mean(exposed)), 1))


def calibrate(family: Sequence[tuple[str, Halted]], good: Sequence[Case], bad: Sequence[Case]) -> tuple[str, Halted]:
    """The best of a family: at most 5 % false halts (or the fewest, if none keeps that), then the fewest exposed."""
    rated = [(rate(rule, good, bad), name, rule) for name, rule in family]
    allowed = max(MOST, min(one[0].false_halt_rate for one in rated))
    kept = [one for one in rated if one[0].false_halt_rate <= allowed]
    best = min(kept, key=lambda one: (one[0].median_exposed, one[0].missed_halt_rate))
    return best[1], best[2]


def _observed(rule: Rule, fleet: Fleet, device: int) -> Sample:
    if not fleet.committed[device]:
        return observe(rule.comparison, {"commit_rate": 0.0}, {})
    now = {"commit_rate": 1.0, "latency_ms": fleet.latency_ms[device], "accuracy": fleet.accuracy[device]}
    before = {"latency_ms": fleet.latency_before_ms[device], "accuracy": fleet.accuracy_before[device]}
    return observe(rule.comparison, now, before)


def _verdicts(watched: Sequence[tuple[Rule, list[Tally]]], opened: int) -> list[Verdict]:
    """Of every gate for every wave that is open."""
    return [judge(rule, tallies[:opened], wave, len(tallies)) for rule, tallies in watched for wave in range(opened)]
