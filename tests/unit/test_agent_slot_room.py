"""How many slots a device keeps: an assignment must not make its record outgrow what the agent can read back."""

import pytest

from edge_agent.core.pointer import Record
from edge_agent.core.slot import Deployed, State
from edge_agent.errors import RefusedError
from wire.assignment import MAX_SLOTS
from wire.messages import Installed, Phase

HOLDS = State(
    current=Deployed(installed=Installed(model="m", version=1, variant="v", sha256="a" * 64), release="b" * 64)
)
EMPTY = State(phase=Phase.FAILED)


def record(holding: int, empty: int) -> Record:
    """A record with so many slots of each kind."""
    held = {f"held-{number}": HOLDS for number in range(holding)}
    return Record(slots=held | {f"empty-{number}": EMPTY for number in range(empty)})


def test_slots_without_a_model_are_forgotten_when_there_are_too_many() -> None:
    """Of those that are no longer assigned; what runs stays whatever is assigned."""
    full = record(2, MAX_SLOTS)
    assert set(full.forgetting({"held-0", *full.slots}).slots) == {"held-0", "held-1"}
    assert "empty-3" in full.forgetting(set(full.slots) - {"empty-3"}).slots


def test_as_long_as_there_is_room_nothing_is_forgotten() -> None:
    """The outcome of a slot that is no longer assigned is still reported."""
    some = record(1, MAX_SLOTS - 1)
    assert some.forgetting(set(some.slots)) == some


def test_more_slots_than_there_is_room_for_are_refused_with_both_numbers() -> None:
    """Slots that hold a model count, those that never did do not."""
    record(MAX_SLOTS - 1, MAX_SLOTS).check_room(["one-more"])
    record(MAX_SLOTS, 0).check_room(["held-0"])
    with pytest.raises(RefusedError, match=f"{MAX_SLOTS} slots hold models; there is room for {MAX_SLOTS}"):
        record(MAX_SLOTS, 0).check_room(["one-more"])
