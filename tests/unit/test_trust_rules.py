"""The rules of a growing repository, and the documents they are about."""

from dataclasses import replace

import pytest
from tuf.api.metadata import SuccinctRoles

from cloud.core.trust import Change, file_of, next_version, why_not_next, why_not_these
from simulator.fakes.tuf_repository import TufRepository, new_key
from wire.adapters.tuf_metadata import check_bin, check_snapshot, check_targets, make_bin, make_targets
from wire.adapters.tuf_root import check_root, keys_of, make_root, sign_root, signers_missing
from wire.errors import MalformedError, OversizeError, SignatureError
from wire.ports import SECOND
from wire.trust import BINS, RootKeys, Target, bin_of, bin_roles, half_over

NOW = 1_800_000_000 * SECOND
FAR = NOW + 10_000 * SECOND
ONE, TWO = Target(10, "1" * 64, 1), Target(20, "2" * 64, 2)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("timestamp.json", ("timestamp", None)),
        ("12.root.json", ("root", 12)),
        ("1.bin-a.json", ("bin-a", 1)),
        ("1800000000.snapshot.json", ("snapshot", 1_800_000_000)),
        ("7.timestamp.json", None),
        ("root.json", None),
        ("0.root.json", None),
        ("1.../root.json", None),
        ("1.root.json/", None),
        ("99999999999.root.json", None),
    ],
)
def test_only_names_of_the_repository_stand_for_a_file(name: str, found: object) -> None:
    """Clients name versions, and the timestamp without one; nothing else is looked up."""
    assert file_of(name) == found


def test_versions_of_the_hub_never_fall_even_after_a_restored_backup() -> None:
    """The clock lifts them above whatever was published before; a fast series goes on by one."""
    assert next_version(0, NOW) == 1_800_000_000
    assert next_version(1_800_000_000, NOW) == 1_800_000_001
    assert next_version(5, NOW + 60 * SECOND) > next_version(1_800_000_000, NOW)


@pytest.mark.parametrize(
    ("version", "held", "floor", "words"),
    [
        (8, 7, 7, ""),
        (7, 7, 7, "does not follow version 7"),
        (9, 7, 7, "does not follow"),
        (6, 7, 0, "does not follow"),
        (1, None, 0, ""),
        (9, None, 7, ""),
        (7, None, 7, "not above 7"),
        (1, None, 7, "devices have seen"),
    ],
)
def test_versions_go_on_by_one_and_begin_anew_only_where_nobody_remembers(
    version: int, held: int | None, floor: int, words: str
) -> None:
    """A jump is as wrong as a replay; after new keys, what devices have seen listed is still the floor."""
    reason = why_not_next(version, held, floor, Change())
    assert (words in reason) if words else reason == ""


def test_nothing_but_the_release_may_differ() -> None:
    """Changed, missing, other than asked for, unasked: each is named."""
    held = {"m/1.json": ONE}
    release = Change(("m/2.json", TWO))
    assert why_not_these(held, held, Change()) == ""
    assert why_not_these(held, held | {"m/2.json": TWO}, release) == ""
    assert "m/1.json is changed" in why_not_these(held, {"m/1.json": TWO}, Change())
    assert "m/1.json is missing" in why_not_these(held, {"m/2.json": TWO}, release)
    assert "not the release" in why_not_these(held, held | {"m/2.json": ONE}, release)
    assert "not the release" in why_not_these(held, held, release)
    assert "m/3.json is changed" in why_not_these(held, held | {"m/2.json": TWO, "m/3.json": ONE}, release)


def test_a_restored_hub_takes_what_it_has_lost_but_forgets_nothing_else() -> None:
    """Versions may jump forward and targets may be new; what it knows stays."""
    held, restored = {"m/1.json": ONE}, Change(restored=True)
    assert why_not_next(9, 7, 7, restored) == ""
    assert why_not_next(7, 7, 7, restored) != ""
    assert why_not_these(held, held | {"m/2.json": TWO}, restored) == ""
    assert "m/1.json is changed" in why_not_these(held, {"m/1.json": TWO}, restored)
    assert "m/1.json is missing" in why_not_these(held, {"m/2.json": TWO}, restored)


def test_half_of_a_life() -> None:
    """The document is signed again from then on."""
    assert not half_over(NOW + 51 * SECOND, 100, NOW)
    assert half_over(NOW + 49 * SECOND, 100, NOW)


def test_bins_are_those_of_the_specification() -> None:
    """TAP 15's own arithmetic gives the same names."""
    roles = SuccinctRoles([], 1, 4, "bin")
    assert tuple(roles.get_roles()) == bin_roles()
    assert len(bin_roles()) == BINS
    for path in (f"model-{number}/{number}.json" for number in range(200)):
        assert bin_of(path) == roles.get_role_for_target(path)


class TestRoots:
    """Who may say who may sign."""

    def test_a_root_follows_only_with_enough_old_and_new_signatures(self) -> None:
        """One of two is refused on either side; two of each pass."""
        repository = TufRepository([new_key().public_hex], NOW)
        first, old = repository.root, repository.root_keys
        repository.root_keys = [new_key(), new_key(), new_key()]
        keys = replace(keys_of(first), root=tuple(key.public_hex for key in repository.root_keys))
        unsigned = make_root(2, FAR, keys)
        half = sign_root(sign_root(unsigned, old[0]), repository.root_keys[0])
        assert signers_missing(half, first) == {"new": 1, "old": 1}
        with pytest.raises(SignatureError, match="1 of 2 signatures that the root before it"):
            check_root(half, first)
        with pytest.raises(SignatureError, match="1 of 2 signatures that itself"):
            check_root(sign_root(half, old[1]), first)
        whole = sign_root(sign_root(half, old[1]), repository.root_keys[2])
        assert check_root(whole, first).version == 2

    def test_one_key_that_signs_twice_is_one_signature(self) -> None:
        """The threshold counts keys."""
        repository = TufRepository([new_key().public_hex], NOW)
        root = make_root(1, FAR, keys_of(repository.root))
        twice = sign_root(sign_root(root, repository.root_keys[0]), repository.root_keys[0])
        with pytest.raises(SignatureError, match="1 of 2"):
            check_root(twice, None)

    def test_versions_of_roots_have_no_gaps(self) -> None:
        """Neither the same again nor a jump."""
        repository = TufRepository([new_key().public_hex], NOW)
        first = repository.root
        repository.rotate()
        third = repository.rotate()
        for root in (first, third):
            with pytest.raises(MalformedError, match="does not follow 1"):
                check_root(root, first)

    def test_what_is_no_root_of_ours_is_named(self) -> None:
        """Other metadata, nonsense, endless bytes, a missing director."""
        repository = TufRepository([new_key().public_hex], NOW)
        with pytest.raises(MalformedError, match="expected 'root'"):
            check_root(repository.files["timestamp.json"], None)
        for data in (b"", b"{}", b"[1]", b"\xff", b'{"signed": {"_type": "root"}, "signatures": []}', b"[" * 60_000):
            with pytest.raises(MalformedError):
                check_root(data, None)
        with pytest.raises(OversizeError):
            check_root(b" " * 70_000, None)
        with pytest.raises(MalformedError, match="x-fleetloop-director"):
            keys_of(repository.root.replace(b"x-fleetloop-director", b"x-fleetloop-somebody"))
        with pytest.raises(MalformedError, match="cannot give 2"):
            make_root(1, FAR, RootKeys(("a" * 64,), 2, ("a" * 64,), ("a" * 64,), ("a" * 64,)))


class TestTargets:
    """What the publisher says."""

    def test_a_bin_is_believed_only_under_its_targets(self) -> None:
        """Another key's bin, another repository's, and a bin that delegates on."""
        repository, stranger = TufRepository([new_key().public_hex], NOW), new_key()
        targets = repository.files["1.targets.json"]
        assert check_targets(targets, repository.root).version == 1
        with pytest.raises(SignatureError, match="bin-a"):
            check_bin(make_bin(2, FAR, {}, stranger), "bin-a", targets)
        with pytest.raises(SignatureError, match="targets"):
            check_targets(make_targets(2, FAR, stranger), repository.root)
        with pytest.raises(MalformedError, match="must not delegate"):
            check_bin(targets, "bin-a", targets)
        with pytest.raises(MalformedError, match="must delegate to 16 bins"):
            check_targets(make_bin(1, FAR, {"m/1.json": ONE}, repository.targets_key), repository.root)

    def test_a_bin_gives_back_what_was_put_in(self) -> None:
        """Length, digest and counter of every target."""
        repository = TufRepository([new_key().public_hex], NOW)
        data = make_bin(1, FAR, {"m/1.json": ONE, "m/2.json": TWO}, repository.targets_key)
        held = check_bin(data, "bin-0", repository.files["1.targets.json"])
        assert held.targets == {"m/1.json": ONE, "m/2.json": TWO}
        assert held.standing.expires_ns == FAR

    def test_a_snapshot_lists_every_role(self) -> None:
        """Targets and sixteen bins, with version and length."""
        repository = TufRepository([new_key().public_hex], NOW)
        _, listed = check_snapshot(repository.files["1.snapshot.json"], repository.root)
        assert set(listed) == {"targets", *bin_roles()}
        assert listed["targets"].bytes == len(repository.files["1.targets.json"])
