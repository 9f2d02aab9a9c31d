"""The device's pure rules of trust: floors that belong to keys, the time to judge by, what a claim's root says."""

import pytest

from edge_agent.core.pointer import Record
from edge_agent.core.reading import Order
from edge_agent.core.trust import (
    Floors,
    Heard,
    Judgement,
    Listed,
    RoleFloor,
    Trusted,
    dump_files,
    founded_on,
    judging_time,
    key_ids,
    parse_files,
)
from edge_agent.errors import RefusedError
from tests.worlds.trust_world import DIRECTOR, ROOT, STRANGER
from wire.assignment import Assignment, assignment_digest
from wire.codec import encode
from wire.errors import MalformedError
from wire.ports import SECOND
from wire.release import object_ref

OLD, NEW = key_ids([DIRECTOR.public_hex, STRANGER.public_hex])
BOTH = (DIRECTOR.public_hex, STRANGER.public_hex)


def order(key: str, sequence: int, issued_ns: int = 0) -> Order:
    """One that wants nothing."""
    assignment = Assignment(device="d", sequence=sequence, issued_ns=issued_ns)
    return Order(assignment, key, assignment_digest(encode(assignment)))


def judged(root: int, *directors: str, fresh: bool = True) -> Judgement:
    """A judgement that found this root."""
    return Judgement(fresh=fresh, floors=Floors(root=root), directors=directors)


def test_a_floor_holds_while_enough_of_the_keys_that_made_it_are_still_good() -> None:
    """TUF 5.3.11: metadata that its keys no longer sign for protects nobody any more, and locks nobody out."""
    floor = RoleFloor(version=9, signers=("a", "b"))
    assert floor.holds(("a", "c"), 1)
    assert not floor.holds(("a", "c"), 2)
    assert not floor.holds(("c",), 1)
    assert not RoleFloor().holds(("a",), 1)


def test_an_older_root_or_none_teaches_nothing_and_a_newer_one_replaces_the_director() -> None:
    """And only what was fresh moves the time of the last verification."""
    known = Trusted(floors=Floors(root=2), directors=(DIRECTOR.public_hex,), verified_ns=5)
    assert known.learning(judged(1, STRANGER.public_hex), 9) == known
    assert known.learning(Judgement(floors=Floors(root=7)), 9) == known
    newer = known.learning(judged(3, STRANGER.public_hex, fresh=False), 9)
    assert (newer.floors.root, newer.directors, newer.verified_ns) == (3, (STRANGER.public_hex,), 5)
    assert known.learning(judged(2, DIRECTOR.public_hex), 9).verified_ns == 9


def test_the_claims_root_counts_only_where_it_is_newer_and_keeps_the_other_floors() -> None:
    """A claim given again does not set the device back."""
    timestamp = RoleFloor(version=7, signers=("k",))
    known = Trusted(floors=Floors(root=2, timestamp=timestamp), directors=(DIRECTOR.public_hex,))
    assert known.founded(Trusted(floors=Floors(root=1), directors=(STRANGER.public_hex,))) == known
    newer = known.founded(Trusted(floors=Floors(root=3), directors=(STRANGER.public_hex,)))
    assert newer.floors == Floors(root=3, timestamp=timestamp)
    assert newer.directors == (STRANGER.public_hex,)


def test_sequence_and_time_are_floors_of_the_director_key_that_signed_them() -> None:
    """A stolen key may have signed 2^62 and the year 2099: the key that replaces it starts anew."""
    record = Record().with_judgement(judged(1, DIRECTOR.public_hex), 1)
    record = record.accepting(order(OLD, 2**62, issued_ns=4_000_000_000 * SECOND))
    assert (record.sequence, record.time_floor_ns) == (2**62, 4_000_000_000 * SECOND)
    with pytest.raises(ValueError, match="below"):
        record.accepting(order(OLD, 5))
    record = record.with_judgement(judged(2, STRANGER.public_hex), 1)
    assert record.time_floor_ns == 0, "no present director has signed any time"
    record = record.accepting(order(NEW, 5, issued_ns=9))
    assert (record.sequence, record.time_floor_ns) == (5, 9)
    assert record.heard_of(OLD).sequence == 2**62, "should that key ever come back, its past does"


def test_where_two_director_keys_are_good_the_time_floor_is_the_later_one_and_never_falls() -> None:
    """While keys overlap."""
    record = Record().with_judgement(judged(1, *BOTH), 1).with_time(OLD, 50).with_time(NEW, 40)
    assert record.time_floor_ns == 50
    assert record.with_time(OLD, 30) == record
    assert record.heard == {OLD: Heard(time_ns=50), NEW: Heard(time_ns=40)}


def test_the_time_told_counts_before_the_clock_and_neither_below_the_floor() -> None:
    """A clock that says less than what was signed before is wrong, and then nobody knows the time."""
    assert judging_time(100, 7, 50) == 100
    assert judging_time(100, 10**20, 50) == 100
    assert judging_time(10, 7, 50) == 50
    assert judging_time(None, 60, 50) == 60
    with pytest.raises(RefusedError, match="nobody tells the time"):
        judging_time(None, 49, 50)


def test_a_claims_root_names_version_and_director_and_nonsense_is_said_to_be_none() -> None:
    """Without any TUF library."""
    found = founded_on(ROOT)
    assert (found.floors.root, found.directors) == (1, (DIRECTOR.public_hex,))
    for bad in (
        b"",
        b"{}",
        b"[]",
        b'{"signed":{"version":1}}',
        b'{"signed":{"version":"x"}}',
        b"{" * 5_000,
        b" " * 70_000,
    ):
        with pytest.raises(MalformedError, match="root"):
            founded_on(bad)


def test_metadata_that_is_held_is_read_back_whole_or_not_at_all() -> None:
    """Damage costs a download, no more."""
    files = {"timestamp.json": b"\x00\xff", "2.root.json": b"{}"}
    record = dump_files(files)
    assert parse_files(record) == files
    assert parse_files(b"") == {}
    for at in range(len(record)):
        altered = record[:at] + bytes([record[at] ^ 1]) + record[at + 1 :]
        assert parse_files(altered) in ({}, files)
        assert parse_files(record[:at]) == {}


def test_a_target_vouches_for_one_file_alone() -> None:
    """Length and every hash, and no hash that this agent does not check."""
    ref = object_ref(b"release")
    listed = Listed(path="m/1.json", bytes=7, hashes={"sha256": ref.sha256})
    assert listed.vouches_for(ref)
    for other in (object_ref(b"release2"), object_ref(b"RELEASE")):
        assert not listed.vouches_for(other)
    both = Listed(path="m/1.json", bytes=7, hashes={"sha256": ref.sha256, "sha512": "0" * 128})
    assert not both.vouches_for(ref)
    assert not Listed(path="m/1.json", bytes=7, hashes={}).vouches_for(ref)
