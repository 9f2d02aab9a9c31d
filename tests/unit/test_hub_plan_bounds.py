"""What a plan may say is one rule, whoever is asked: the API's document and the plan itself."""

from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from cloud.api.schemas.rollouts import RolloutRequest
from cloud.core.rollout import Plan, Wave
from cloud.core.rollout.plan import PlanError, Rate, check

DAY_S = 86_400
AT_THE_BOUND: list[dict[str, Any]] = [
    {"step_timeout_s": 7 * DAY_S, "total_timeout_s": 7 * DAY_S},
    {"health_window_s": DAY_S, "evidence_timeout_s": 31 * DAY_S},
    {"waves": [{"percent": 100, "soak_s": 0}] * 20, "gates": []},
    {"rate": {"per_minute": 1_000_000, "factor": 5, "step": 1, "most": 1}},
    {"retry": {"attempts": 10, "delay_s": 0, "budget": 0}, "max_in_flight": 1},
    {"disruption": {"label": "x" * 63, "max_unavailable": 1}},
    {"window": {"cron": "0 2 * * *", "zone": "UTC", "duration_s": 60, "jitter_s": 0}},
    {"gates": [{"expression": "commit_rate >= 99 %", "false_halt": 0.5, "minimum_sample": 1}]},
]
BEYOND: list[tuple[dict[str, Any], str]] = [
    ({"step_timeout_s": 7 * DAY_S + 1}, "step_timeout_s"),
    ({"total_timeout_s": 0}, "total_timeout_s"),
    ({"health_window_s": -1}, "health_window_s"),
    ({"waves": []}, "waves"),
    ({"waves": [{"percent": 100}] * 21}, "waves"),
    ({"waves": [{"count": 1}, {"percent": 100.5}]}, "waves.1.percent"),
    ({"waves": [{"percent": 100, "selector": {"x": "y" * 64}}]}, "waves.0.selector"),
    ({"rate": {"per_minute": 0}}, "rate.per_minute"),
    ({"retry": {"attempts": 11}}, "retry.attempts"),
    ({"retry": {"outcomes": []}}, "retry.outcomes"),
    ({"disruption": {"label": "x", "max_unavailable": 0}}, "disruption.max_unavailable"),
    ({"install_window": {"cron": "0 2 * * *", "zone": "UTC", "duration_s": 59}}, "install_window.duration_s"),
    ({"gates": [{"expression": "commit_rate >= 99 %", "missed_halt": 0.6}]}, "gates.0.missed_halt"),
]


@pytest.mark.parametrize("said", AT_THE_BOUND)
def test_both_take_what_is_at_the_bound(said: dict[str, Any]) -> None:
    """Devices that are on the air at night only need timers of days."""
    said = {"waves": [{"percent": 100}], **said}
    RolloutRequest(model="watch", version=1, **said)
    check(msgspec.convert(said, Plan), 0)


@pytest.mark.parametrize(("said", "field"), BEYOND)
def test_both_refuse_what_is_beyond_it_by_its_field(said: dict[str, Any], field: str) -> None:
    """However the plan came about: a rollout is never created that cannot be read again."""
    said = {"waves": [{"percent": 100}], **said}
    with pytest.raises(ValidationError) as refused:
        RolloutRequest(model="watch", version=1, **said)
    name = field.rpartition(".")[2]
    assert any(name in one["loc"] for one in refused.value.errors())
    with pytest.raises(msgspec.ValidationError, match=name):
        msgspec.convert(said, Plan)


def test_a_plan_that_a_program_built_is_held_to_the_same() -> None:
    """The message begins with the field, as all mistakes in plans do."""
    everybody = (Wave(percent=100),)
    for plan, said in (
        (Plan(everybody, step_timeout_s=1e9), "^step_timeout_s: expected"),
        (Plan((*everybody, Wave(count=0))), "^waves.1.count: expected"),
        (Plan(everybody, rate=Rate(0)), "^rate.per_minute: expected"),
        (Plan(everybody, total_timeout_s=float("nan")), "^total_timeout_s: expected"),
    ):
        with pytest.raises(PlanError, match=said):
            check(plan, 0)
