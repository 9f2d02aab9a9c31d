"""The twin: what stands between desired and reported, and how an agent's schemas lie to the hub's."""

from typing import Any

import msgspec
import pytest

from cloud.core.presence import GRACE_NS, Standing, absence, standing
from cloud.core.twin import Skew, Sync, compare, skew
from tests.worlds.hub_world import CAPABILITIES
from wire.assignment import Assignment, Execution, SlotAssignment
from wire.codec import SPEAKS
from wire.messages import Installed, Outcome, Phase, Reported, SlotReport
from wire.release import ObjectRef

DIGEST, OTHER = "a" * 64, "b" * 64
WANTED = SlotAssignment(
    slot="main",
    model="watch",
    version=2,
    variant="int8",
    sha256=DIGEST,
    release=ObjectRef(sha256=OTHER, bytes=1),
    execution=Execution(id="e"),
)
DESIRED = Assignment(device="p01", sequence=5, issued_ns=1, slots=(WANTED,))
RUNS = Installed(model="watch", version=2, variant="int8", sha256=DIGEST)


def reported(sequence: int = 5, refused: str = "", **slot: Any) -> Reported:
    """What the device says of its slot."""
    report = SlotReport(**{"slot": "main", "phase": Phase.COMMITTED, "current": RUNS, **slot})
    return Reported(seq=1, sequence=sequence, agent="1", capabilities=CAPABILITIES, slots=(report,), refused=refused)


@pytest.mark.parametrize(
    ("told", "sync", "reason"),
    [
        (None, Sync.PENDING, "not accepted"),
        (reported(), Sync.IN_SYNC, ""),
        (reported(6), Sync.IN_SYNC, ""),
        (reported(4), Sync.PENDING, "not accepted"),
        (reported(4, "the sequence falls"), Sync.PENDING, "refuses the newest assignment: the sequence falls"),
        (reported(current=None, phase=Phase.FETCHING), Sync.INSTALLING, "at fetching"),
        (reported(phase=Phase.TRIAL, current=msgspec.structs.replace(RUNS, version=1)), Sync.INSTALLING, "at trial"),
        (reported(current=None, phase=Phase.FAILED, reason="no room"), Sync.FAILED, "no room"),
        (
            reported(current=msgspec.structs.replace(RUNS, version=1), outcome=Outcome.ROLLED_BACK),
            Sync.FAILED,
            "ended as rolled_back",
        ),
        (reported(current=msgspec.structs.replace(RUNS, sha256=OTHER)), Sync.INSTALLING, "at committed"),
    ],
)
def test_a_slot_is_in_sync_only_when_the_device_says_so(told: Reported | None, sync: Sync, reason: str) -> None:
    """Accepted, and running exactly these bytes; anything else has a reason."""
    slot = compare(DESIRED, told)[0]
    assert slot.sync is sync
    assert reason in slot.reason
    assert bool(slot.reason) == (sync is not Sync.IN_SYNC)


def test_slots_that_only_one_side_knows_are_shown() -> None:
    """Nothing desired, or not begun."""
    extra = msgspec.structs.replace(reported().slots[0], slot="other")
    both = msgspec.structs.replace(reported(), slots=(extra,))
    assert [(one.slot, one.sync) for one in compare(DESIRED, both)] == [
        ("main", Sync.PENDING),
        ("other", Sync.UNASSIGNED),
    ]
    assert compare(None, None) == ()


def test_skew_is_told_by_the_highest_schema_that_both_could_speak() -> None:
    """Nothing said is unknown, not behind."""
    lowest, highest = SPEAKS
    assert skew(0) is Skew.UNKNOWN
    assert skew(highest) is Skew.CURRENT
    assert skew(highest + 1) is Skew.AHEAD
    assert lowest > 1 or skew(-1) is Skew.INCOMPATIBLE


def test_grace_lies_between_away_and_offline() -> None:
    """At its very end the device is offline, and its absence worth noting."""
    assert standing(True, 5, 10**18) is Standing.ONLINE
    assert standing(False, 5, 5 + GRACE_NS - 1) is Standing.AWAY
    assert standing(False, 5, 5 + GRACE_NS) is Standing.OFFLINE
    assert standing(False, None, 5) is Standing.OFFLINE
    assert absence(5, 5 + GRACE_NS - 1) is None
    assert absence(5, 5 + GRACE_NS) == GRACE_NS
    assert absence(None, 10**18) is None
