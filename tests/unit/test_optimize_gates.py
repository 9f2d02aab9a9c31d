"""The gates decide from figures alone, and every refusal begins with the name of the gate."""

import msgspec
import pytest

from optimize.gates import Measurement, choose, judge, judge_alone, pareto
from optimize.spec import Budgets, CandidateReport, FileReport, Metrics

GOOD = Metrics(accuracy=0.95, agreement=1.0, p50_ms=0.1, p95_ms=0.2, latency_ratio=1.0, rss_mb=50.0, golden_worst=0.0)
PARENT = Measurement(100_000, GOOD)
BUDGETS = Budgets(accuracy_drop=0.01, agreement=0.97, bytes_ratio=1.0, latency_ratio=1.5)


def candidate(size: int = 30_000, fault: str = "", **changed: float) -> Measurement:
    """A candidate that passes every gate, but for what is said."""
    return Measurement(size, msgspec.structs.replace(GOOD, **changed), fault)


def report(name: str, size: int, latency: float, accuracy: float, *, accepted: bool = True) -> CandidateReport:
    """A report with the three figures that choosing looks at."""
    metrics = msgspec.structs.replace(GOOD, latency_ratio=latency, accuracy=accuracy)
    file = FileReport(file=f"{name}.onnx", sha256="0" * 64, bytes=size)
    return CandidateReport(name=name, precision="fp32", model=file, metrics=metrics, accepted=accepted)


def test_a_candidate_within_every_budget_is_accepted() -> None:
    """No reason to refuse means accepted."""
    assert judge(candidate(), PARENT, BUDGETS) == ()


@pytest.mark.parametrize(
    ("refused", "gate"),
    [
        (Measurement(30_000, None, "no such operator"), "loads"),
        (candidate(fault="3 of 32 golden inputs get another class"), "golden"),
        (candidate(size=100_000), "smaller"),
        (candidate(latency_ratio=1.51), "latency"),
        (candidate(accuracy=0.93), "accuracy"),
        (candidate(agreement=0.96), "agreement"),
    ],
)
def test_each_gate_refuses_alone_and_is_named(refused: Measurement, gate: str) -> None:
    """One figure out of budget gives one reason, and it says which gate."""
    reasons = judge(refused, PARENT, BUDGETS)
    assert [reason.split(":")[0] for reason in reasons] == [gate]


def test_all_exceeded_budgets_are_reported_together() -> None:
    """A person sees at once everything that is wrong with a candidate."""
    reasons = judge(candidate(size=200_000, latency_ratio=3.0, accuracy=0.5, agreement=0.5), PARENT, BUDGETS)
    assert [reason.split(":")[0] for reason in reasons] == ["smaller", "latency", "accuracy", "agreement"]


def test_a_budget_of_none_switches_its_gate_off() -> None:
    """A federated parent is not judged by the hub's labels."""
    budgets = Budgets(accuracy_drop=None, agreement=None)
    assert judge(candidate(accuracy=0.1, agreement=0.1), PARENT, budgets) == ()


def test_the_accuracy_budget_itself_is_still_allowed() -> None:
    """A drop of exactly the budget passes in spite of the rounding of its subtraction."""
    assert judge(candidate(accuracy=0.95 - 0.01), PARENT, BUDGETS) == ()


def test_the_parent_is_judged_without_comparison() -> None:
    """It must load and reproduce its vectors; it cannot be smaller than itself."""
    assert judge_alone(PARENT) == ()
    assert judge_alone(Measurement(1, None, "bad file"))[0].startswith("loads")


def test_the_pareto_set_keeps_what_nothing_else_beats() -> None:
    """A candidate worse in one figure and better in none is not kept; refused ones never are."""
    reports = (
        report("fp32", 100, 1.0, 0.95),
        report("int8", 30, 0.8, 0.95),
        report("pruned", 40, 0.5, 0.94),
        report("broken", 1, 0.1, 1.0, accepted=False),
    )
    assert pareto(reports) == {"int8", "pruned"}


def test_the_smallest_accepted_candidate_is_chosen() -> None:
    """A refused one is not, however small."""
    reports = (report("fp32", 100, 1.0, 0.95), report("int8", 30, 0.8, 0.95), report("x", 1, 0.1, 1, accepted=False))
    assert choose(reports) == "int8"


def test_nothing_is_chosen_when_nothing_was_accepted() -> None:
    """That is an error with the reasons in it, not a silent default."""
    with pytest.raises(ValueError, match="no candidate was accepted"):
        choose((report("fp32", 100, 1.0, 0.95, accepted=False),))
