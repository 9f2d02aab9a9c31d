"""Gates are read, checked against the catalogue, and refused with the position of the mistake."""

import pytest

from cloud.core.gates.judge import Gate, rules
from cloud.core.gates.language import Against, GateError, parse


@pytest.mark.parametrize(
    ("text", "shown", "margin"),
    [
        ("commit_rate >= 95 %", "commit_rate >= 95 %", 0.025),
        ("commit_rate>=0.5", "commit_rate >= 50 %", 0.05),
        ("golden_agreement >= 100 %", "golden_agreement >= 100 %", 0.0),
        ("latency_ms <= 0.04 s", "latency_ms <= 40 ms", 4.0),
        ("latency_ms <= 1.2 * previous(latency_ms)", "latency_ms <= 1.2 * previous(latency_ms)", 0.1823),
        ("accuracy >= control(accuracy) - 3 points", "accuracy >= control(accuracy) - 3 points", 0.03),
        ("accuracy >= (previous(accuracy) - 1 %) - 0.02", "accuracy >= previous(accuracy) - 3 points", 0.03),
        ("memory_mb <= 2 * 3 * 10 MB", "memory_mb <= 60 MB", 6.0),
    ],
)
def test_an_expression_has_one_normal_form(text: str, shown: str, margin: float) -> None:
    """Whatever units and brackets it was written with; and good and bad lie a margin apart."""
    (rule,) = rules((Gate(text),))
    assert rule.comparison.text == shown
    assert rule.margin == pytest.approx(margin, abs=1e-4)


def test_comparisons_are_joined_by_and() -> None:
    """Each is judged for itself."""
    first, second = parse("latency_ms <= 1.2 * previous(latency_ms) and commit_rate >= 95 %")
    assert (first.against, first.factor, first.relative) == (Against.PREVIOUS, 1.2, True)
    assert (second.against, second.offset, second.at_least) == (Against.LITERAL, pytest.approx(0.95), True)


@pytest.mark.parametrize(
    ("text", "column", "problem"),
    [
        ("commit_rate > 3", 13, "expected '>=' or '<='"),
        ("latncy_ms <= 3 ms", 1, "there is no fact 'latncy_ms'; there are commit_rate"),
        ("commit_rate >= 95 % and latncy_ms <= 3 ms", 25, "there is no fact"),
        ("latency_ms <= 3 MB", 15, "latency_ms is in ms, but this is MB"),
        ("latency_ms <= 3", 15, "a bare number"),
        ("commit_rate >= previous(commit_rate)", 25, "only the rollout itself measures it"),
        ("accuracy >= previous(latency_ms)", 13, "must be compared with itself"),
        ("commit_rate >= 120 %", 16, "between 0 and 100 %"),
        ("commit_rate >=", 15, "it ends too early"),
        ("accuracy >= 2 * previous(accuracy", 34, "expected ')'"),
        ("latency_ms <= 3 ms * 2 ms", 22, "must be a bare number"),
        ("accuracy >= previous(accuracy) - previous(accuracy)", 34, "one reference"),
        ("accuracy >= previous(accuracy) + 3 ms", 34, "do not add up"),
        ("accuracy >= 0 * previous(accuracy)", 13, "positive factor"),
        ("latency_ms <= 99999999999 ms", 15, "too large"),
        ("__import__('os')", 1, "'_' is not expected here"),
        ("", 1, "it ends too early"),
    ],
)
def test_a_mistake_is_named_with_its_position(text: str, column: int, problem: str) -> None:
    """So that an operator sees where to look."""
    with pytest.raises(GateError) as caught:
        parse(text)
    assert (caught.value.column, problem in str(caught.value)) == (column, True), str(caught.value)


def test_a_gate_that_allows_no_change_needs_a_distance() -> None:
    """Otherwise good and bad would be the same, and nothing could ever be decided."""
    with pytest.raises(GateError, match="give `indifference`"):
        rules((Gate("accuracy >= previous(accuracy)"),))
    assert rules((Gate("accuracy >= previous(accuracy)", indifference=0.02),))[0].margin == 0.02
    with pytest.raises(GateError, match="leaves room for 0"):
        rules((Gate("commit_rate >= 95 %", indifference=0.2),))
