"""What a device's record may not say after the one before it: each rule is broken once."""

from typing import Any

import msgspec
import pytest

from edge_agent.core.pointer import Record
from edge_agent.core.slot import Deployed, State
from edge_agent.core.trust import Floors, Heard, Trusted
from simulator.invariants.devices import Signed, record_problems
from wire.messages import Installed, Phase


def deployed(version: int) -> Deployed:
    """A model."""
    sha256 = f"{version:064x}"
    return Deployed(installed=Installed(model="m", version=version, variant="v", sha256=sha256), release=sha256)


BEFORE = Record(
    boot=3,
    heard={"k": Heard(sequence=5, time_ns=70)},
    floors={"m": 2},
    trust=Trusted(floors=Floors(root=2)),
    updates_accepted=1,
    slots={"main": State(phase=Phase.TRIAL, current=deployed(1), trial=deployed(2))},
)
SIGNED = Signed({deployed(version).installed.sha256: version for version in (1, 2, 3)})


def slot(**changes: Any) -> dict[str, State]:
    """The slot, changed."""
    return {"main": msgspec.structs.replace(BEFORE.slots["main"], **changes)}


@pytest.mark.parametrize(
    ("problem", "changes"),
    [
        ("the sequence fell", {"heard": {"k": Heard(sequence=4, time_ns=70)}}),
        ("the time floor fell", {"heard": {"k": Heard(sequence=5, time_ns=69)}}),
        ("the floor of m fell", {"floors": {"m": 1}}),
        ("versions of trust metadata fell", {"trust": Trusted(floors=Floors(root=1))}),
        ("start number 3 became 2", {"boot": 2}),
        ("accepted updates were forgotten", {"updates_accepted": 0}),
        ("gave its only model up", {"slots": slot(current=None)}),
        ("neither on trial nor there before", {"slots": slot(current=deployed(3))}),
        ("start 4 with the same model", {"slots": slot(tries=4)}),
        ("30 restarts", {"slots": slot(restarts=30)}),
        ("below the floor", {"floors": {"m": 3}}),
    ],
)
def test_a_record_that_breaks_a_promise_is_noticed(problem: str, changes: dict[str, Any]) -> None:
    """One change that may not be."""
    found = list(record_problems(BEFORE, msgspec.structs.replace(BEFORE, **changes), SIGNED))
    assert len(found) == 1
    assert problem in found[0]


def test_a_record_that_keeps_its_promises_is_left_alone() -> None:
    """A commit: the trial becomes the current model."""
    after = msgspec.structs.replace(BEFORE, slots=slot(current=deployed(2), previous=deployed(1), trial=None))
    assert not list(record_problems(BEFORE, after, SIGNED))
