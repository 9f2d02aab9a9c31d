"""Delta debugging over numbered steps."""

from collections.abc import Sequence

import pytest

from simulator.fuzz.draw import draw
from simulator.fuzz.shrink import shrink


@pytest.mark.parametrize("guilty", [(), (3,), (0, 9), (2, 5, 7)])
def test_only_the_guilty_steps_are_left(guilty: tuple[int, ...]) -> None:
    """A failure that takes exactly these steps."""
    tried: list[Sequence[int]] = []

    def fails(steps: Sequence[int]) -> bool:
        tried.append(steps)
        return set(guilty) <= set(steps)

    assert shrink(range(10), fails) == guilty
    assert len(tried) < 60


def test_a_seed_decides_a_life() -> None:
    """The same one twice, another one for another seed; and steps are numbered faults first."""
    life = draw(7)
    assert life == draw(7)
    assert life != draw(8)
    assert life.steps == len(life.faults) + len(life.actions)
    assert len(life.faults) >= 4
