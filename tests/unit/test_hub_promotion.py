"""The rule by which a version gets into production."""

import re
from dataclasses import replace

import pytest

from cloud.core.promotion import Evidence, Rule, Stage, stage, unmet
from cloud.core.registry import VersionState, why_not_rolled_out

SEEN = Evidence(devices=20, ended=20, committed=20, rollouts_succeeded=1, rollouts_active=0, feedback=200, correct=190)
RULE = Rule(min_devices=10, min_accuracy=0.9)


def test_a_rule_that_is_met_asks_for_nothing() -> None:
    """Every figure exactly at its bound is enough."""
    assert unmet(RULE, SEEN) == ()
    assert unmet(Rule(min_devices=20, min_commit_rate=1.0, min_accuracy=0.95, min_feedback=200), SEEN) == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rollouts_active": 1}, "still active"),
        ({"rollouts_succeeded": 0}, "no rollout of it has succeeded"),
        ({"devices": 9}, "9 devices have committed it, 10 are needed"),
        ({"committed": 18}, r"18 of 20 executions succeeded \(0.900\)"),
        ({"ended": 0, "committed": 0}, "0 of 0 executions"),
        ({"feedback": 99, "correct": 99}, "99 predictions were judged"),
        ({"correct": 170}, "found 0.850 of its predictions right"),
    ],
)
def test_what_is_missing_is_said(change: dict[str, int], reason: str) -> None:
    """One reason each, with the figure and what it should be."""
    missing = unmet(RULE, replace(SEEN, **change))
    assert len(missing) == 1
    assert re.search(reason, missing[0])


def test_stages_follow_from_what_is_kept() -> None:
    """Retired beats everything; a retired version cannot be used."""
    released = VersionState.RELEASED
    assert stage(VersionState.AWAITING_SIGNATURE, in_production=False, retired=False) is Stage.CANDIDATE
    assert stage(released, in_production=True, retired=False) is Stage.PRODUCTION
    assert stage(released, in_production=False, retired=True) is Stage.RETIRED
    assert "retired: too slow" in why_not_rolled_out(released, "", "too slow")
