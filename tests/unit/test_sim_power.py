"""What a power cut may leave: every subset of unsynced names, every kind of unsynced bytes, and nothing else."""

from simulator.core.power import MAX_FREE_CHANGES, Content, NameChange, Unsettled, leavings, one_outcome, outcomes
from simulator.core.rng import Rng


def left(content: Content) -> set[bytes]:
    """What there may be of a file."""
    return {one.data for one in leavings(content)}


def trees(disk: Unsettled) -> set[tuple[tuple[str, bytes], ...]]:
    """What there may be of a disk."""
    return {tuple((path, one.data) for path, one in tree.items()) for tree in outcomes(disk)}


def test_a_synced_file_is_what_it_is() -> None:
    """Nothing else may be left of it."""
    assert left(Content(b"data", 4)) == {b"data"}


def test_reserved_space_that_was_not_synced_may_be_missing() -> None:
    """Neither its length nor anything in it is durable."""
    assert left(Content(b"", 3)) == {b"", bytes(3)}


def test_unsynced_bytes_may_be_missing_whole_zeroed_or_torn_with_and_without_the_rest() -> None:
    """Old content in front of them stays."""
    found = left(Content(b"old", 7, ((3, b"NEWS"),)))
    assert found == {b"old", b"oldNEWS", b"old" + bytes(4), b"oldNE", b"oldNE" + bytes(2)}


def test_a_long_write_is_torn_at_block_bounds_only() -> None:
    """A block is written whole or not at all."""
    data = b"x" * 2048
    torn = {len(one.rstrip(b"\0")) for one in left(Content(b"", 2048, ((0, data),)))}
    assert torn == {0, 512, 1024, 1536, 2048}


def test_the_last_of_several_writes_may_be_the_only_one_that_arrived() -> None:
    """Disks write in any order."""
    assert b"\0\0CD" in left(Content(b"", 4, ((0, b"AB"), (2, b"CD"))))


def test_any_subset_of_unsynced_names_survives_in_order() -> None:
    """A rename may be there although the creation before it is not, and the other way round."""
    changes = (NameChange("", "new.tmp", 2), NameChange("", "record", 2, "new.tmp"))
    disk = Unsettled({"record": 1}, changes, {1: Content(b"old", 3), 2: Content(b"new", 3)})
    old, new = ("record", b"old"), ("record", b"new")
    assert trees(disk) == {(old,), (("new.tmp", b"new"), old), (new,)}


def test_of_very_many_unsynced_names_the_older_ones_survive() -> None:
    """Else there would be more states than anybody can look at."""
    changes = tuple(NameChange("", f"f{number}", 1) for number in range(MAX_FREE_CHANGES + 3))
    found = trees(Unsettled({}, changes, {1: Content(b"", 0)}))
    assert len(found) == 2**MAX_FREE_CHANGES
    assert all({"f0", "f1", "f2"} <= {path for path, _ in tree} for tree in found)


def test_one_outcome_is_one_of_the_outcomes() -> None:
    """Whatever the seed."""
    changes = (NameChange("", "a", 1), NameChange("", "b", 2))
    disk = Unsettled({}, changes, {1: Content(b"", 4, ((0, b"data"),)), 2: Content(b"b", 1)})
    every = trees(disk)
    drawn = {tuple((path, one.data) for path, one in one_outcome(disk, Rng(seed)).items()) for seed in range(200)}
    assert drawn <= every
    assert len(drawn) > len(every) // 2
