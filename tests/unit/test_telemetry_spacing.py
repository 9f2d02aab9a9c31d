"""How long what was counted waits to be told: seconds after a start or a new model, the interval at rest."""

import pytest

from edge_agent.service.telemetry import Spacing
from wire.ports import SECOND


@pytest.mark.parametrize(
    ("age_s", "wait_s"), [(0, 5), (20, 5), (40, 10), (600, 150), (3600, 900), (30 * 24 * 3600, 900)]
)
def test_figures_are_at_most_a_quarter_as_old_as_the_news(age_s: int, wait_s: int) -> None:
    """Never closer than five seconds, never further apart than the interval."""
    assert Spacing().wait_ns(age_s * SECOND) == wait_s * SECOND


def test_a_short_interval_is_kept_from_the_start() -> None:
    """Whoever asks for a message every two seconds gets them at once."""
    assert Spacing(2.0).wait_ns(0) == 2 * SECOND
