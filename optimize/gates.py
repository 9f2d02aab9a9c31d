"""The gates: budgets and measurements in, reasons for refusal out. Pure; the measuring is done elsewhere.

Gates in order: `loads`, `golden`, `smaller`, `latency`, `accuracy`, `agreement`. Nothing more is asked of a candidate
that does not load. The parent itself must load and reproduce its golden vectors; it has nobody to be compared with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from optimize.spec import Budgets, CandidateReport, Metrics

# Of n holdout inputs, a budget of 0.01 must not refuse for the last bit of a division.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Measurement:
    """What measuring gave. `metrics` is None when the model did not load; `fault` then says why, as it does when the
    golden vectors failed."""

    bytes: int
    metrics: Metrics | None
    fault: str = ""


def judge(candidate: Measurement, parent: Measurement, budgets: Budgets) -> tuple[str, ...]:
    """The reasons to refuse `candidate`, each starting with its gate's name; none means accepted."""
    if own := judge_alone(candidate):
        return own
    assert candidate.metrics is not None
    if parent.metrics is None:
        return ("loads: the parent does not, so there is nothing to compare with",)
    return tuple(_against_parent(candidate, parent, candidate.metrics, parent.metrics, budgets))


def judge_alone(candidate: Measurement) -> tuple[str, ...]:
    """The gates that need no parent: it loads, and reproduces its golden vectors in a fresh process."""
    if candidate.metrics is None:
        return (f"loads: {candidate.fault}",)
    return (f"golden: {candidate.fault}",) if candidate.fault else ()


def _against_parent(
    candidate: Measurement, parent: Measurement, own: Metrics, theirs: Metrics, budgets: Budgets
) -> Iterator[str]:
    allowed = budgets.bytes_ratio * parent.bytes
    if candidate.bytes >= allowed:
        yield f"smaller: {candidate.bytes} bytes, must be under {allowed:.0f}"
    if own.latency_ratio > budgets.latency_ratio:
        yield f"latency: {own.latency_ratio:.2f} times the parent's, at most {budgets.latency_ratio:.2f} allowed"
    drop = theirs.accuracy - own.accuracy
    if budgets.accuracy_drop is not None and drop > budgets.accuracy_drop + _ROUNDING:
        yield f"accuracy: {drop:.4f} below the parent's, at most {budgets.accuracy_drop:.4f} allowed"
    if budgets.agreement is not None and own.agreement < budgets.agreement - _ROUNDING:
        yield f"agreement: {own.agreement:.4f} with the parent, at least {budgets.agreement:.4f} required"


def pareto(reports: tuple[CandidateReport, ...]) -> frozenset[str]:
    """Names of the accepted candidates that no other accepted one equals or beats in bytes, latency and accuracy."""
    costs = {report.name: _cost(report) for report in reports if report.accepted}
    return frozenset(
        name
        for name, cost in costs.items()
        if not any(_dominates(other, cost) for rival, other in costs.items() if rival != name)
    )


def choose(reports: tuple[CandidateReport, ...]) -> str:
    """The accepted candidate with the smallest file, which is what a fleet pays for most.

    Raises ValueError when none was accepted, the parent included.
    """
    accepted = [report for report in reports if report.accepted]
    if not accepted:
        raise ValueError("no candidate was accepted: " + "; ".join(f"{one.name} ({one.reasons})" for one in reports))
    return min(accepted, key=_cost).name


def _cost(report: CandidateReport) -> tuple[float, float, float]:
    assert report.model is not None
    assert report.metrics is not None
    return (report.model.bytes, report.metrics.latency_ratio, -report.metrics.accuracy)


def _dominates(a: tuple[float, float, float], b: tuple[float, float, float]) -> bool:
    return all(mine <= theirs for mine, theirs in zip(a, b, strict=True)) and a != b
