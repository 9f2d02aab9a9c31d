"""Policies side by side: the same seeds under each, so that differences are paired, with bootstrap intervals of 95 %.

Looked at are the rollouts whose plans the policies replace. A *false halt* is a good version that was halted, a *missed
halt* one that is not good and went through.
"""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from simulator.report import Report, RolloutReport
from simulator.scenario.document import Scenario
from simulator.scenario.steps import RollOut

RESAMPLES = 10_000
LOW, HIGH = 2.5, 97.5


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A mean over seeds, and where it lies with 95 %."""

    mean: float
    low: float
    high: float


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """How often, of how many."""

    count: int
    of: int


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """One policy over all seeds. `exposed`: devices that were assigned a version that is not good; `harmed`: those of
    them on which it misbehaves; `seconds`: virtual time until all rollouts were at rest."""

    policy: str
    seeds: int
    exposed: Estimate
    harmed: Estimate
    seconds: Estimate
    false_halts: Rate
    missed_halts: Rate


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """How much more of a figure a policy has than the first one, seed by seed. `sure`: the interval leaves out zero."""

    policy: str
    against: str
    figure: str
    estimate: Estimate

    @property
    def sure(self) -> bool:
        """Is it more than chance?"""
        return self.estimate.low > 0 or self.estimate.high < 0


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `rollouts` are those that the policies are about. `failed`: by policy, runs in which an expectation of
    the scenario was not met."""

    scenario: str
    seeds: int
    rollouts: tuple[str, ...]
    figures: tuple[Figures, ...]
    differences: tuple[Difference, ...]
    failed: dict[str, int]


Values = npt.NDArray[np.float64]
Measure = Callable[[Sequence[RolloutReport]], float]
MEASURES: dict[str, Measure] = {
    "exposed": lambda rollouts: sum(one.assigned for one in rollouts if not one.good),
    "harmed": lambda rollouts: sum(one.harmed for one in rollouts),
    "seconds": lambda rollouts: sum(one.seconds for one in rollouts),
}


def compare(scenario: Scenario, policies: Sequence[str], reports: Sequence[Report]) -> Comparison:
    """`reports`: all seeds of the first policy, then all of the next, in the same order."""
    count = len(reports) // len(policies)
    judged = _judged(scenario)
    runs = {
        policy: [_rollouts(report, judged) for report in reports[number * count : (number + 1) * count]]
        for number, policy in enumerate(policies)
    }
    values = {
        policy: {name: np.array([measure(one) for one in mine]) for name, measure in MEASURES.items()}
        for policy, mine in runs.items()
    }
    first = policies[0]
    differences = tuple(
        Difference(
            policy=policy, against=first, figure=name, estimate=_estimate(values[policy][name] - values[first][name])
        )
        for policy in policies[1:]
        for name in MEASURES
    )
    failed = {policy: sum(not report.passed for report in reports if report.policy == policy) for policy in policies}
    return Comparison(
        scenario=scenario.title,
        seeds=count,
        rollouts=tuple(sorted(judged)),
        figures=tuple(_figures(policy, runs[policy], values[policy]) for policy in policies),
        differences=differences,
        failed=failed,
    )


def as_comparison_lines(comparison: Comparison) -> list[str]:
    """For people."""
    lines = [f"{comparison.scenario}: {len(comparison.figures)} policies, {comparison.seeds} seeds each"]
    head = ("policy", "exposed", "harmed", "time", "false halts", "missed halts")
    rows = [head] + [
        (
            one.policy,
            _interval(one.exposed),
            _interval(one.harmed),
            f"{one.seconds.mean:.0f} s",
            f"{one.false_halts.count} of {one.false_halts.of}",
            f"{one.missed_halts.count} of {one.missed_halts.of}",
        )
        for one in comparison.figures
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines += ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for one in comparison.differences:
        said = "" if one.sure else "  (may be chance)"
        lines.append(f"{one.policy} against {one.against}: {one.figure} {_interval(one.estimate, signed=True)}{said}")
    lines += [
        f"expectations not met under {name}: in {count} runs" for name, count in comparison.failed.items() if count
    ]
    return lines


def as_comparison_json(comparison: Comparison) -> str:
    """As one JSON object on one line."""
    return msgspec.json.encode(comparison).decode()


def _judged(scenario: Scenario) -> frozenset[str]:
    """Rollouts whose plans a policy of the file replaces; all, where none says."""
    named = {name for policy in scenario.policies for name in policy.rollouts}
    return frozenset(named or (step.name for step in scenario.timeline if isinstance(step, RollOut)))


def _rollouts(report: Report, judged: frozenset[str]) -> list[RolloutReport]:
    return [one for one in report.rollouts if one.name in judged]


def _figures(policy: str, runs: Sequence[Sequence[RolloutReport]], values: dict[str, Values]) -> Figures:
    rollouts = [one for run in runs for one in run]
    good, bad = [one for one in rollouts if one.good], [one for one in rollouts if not one.good]
    return Figures(
        policy=policy,
        seeds=len(runs),
        exposed=_estimate(values["exposed"]),
        harmed=_estimate(values["harmed"]),
        seconds=_estimate(values["seconds"]),
        false_halts=Rate(count=sum(one.state == "halted" for one in good), of=len(good)),
        missed_halts=Rate(count=sum(one.state == "succeeded" for one in bad), of=len(bad)),
    )


def _estimate(values: Values) -> Estimate:
    """Percentile bootstrap of the mean, with a seed of its own: the same figures give the same interval."""
    picks = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), (LOW, HIGH))
    return Estimate(mean=float(values.mean()), low=float(low), high=float(high))


def _interval(one: Estimate, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{one.mean:{sign}.1f} [{one.low:{sign}.1f}, {one.high:{sign}.1f}]"
