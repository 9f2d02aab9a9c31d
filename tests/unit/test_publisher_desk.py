"""The publisher at work against a hub and a shelf in memory, which fail or lie when the test says so."""

from hashlib import sha256

import msgspec
import pytest

from cloud.publisher.book import Book, ForeignRootError, NotNamedError
from cloud.publisher.core import Policy
from cloud.publisher.ports import HubUnreachableError
from cloud.publisher.service import Desk, DisagreementError, NoRootError, NotApprovableError, UnknownRequestError
from simulator.fakes.tuf_repository import new_key
from simulator.publisher import MemoryShelf
from tests.samples.release_builders import MODEL, release, variant
from tests.worlds.publisher_world import NOW, FakeHub, request
from wire.adapters.tuf_metadata import check_bin, check_targets, make_bin
from wire.codec import encode
from wire.ports import SECOND
from wire.trust import TARGETS_LIFE_S, Target, bin_of, bin_roles, target_path

PATH = target_path(MODEL, 1)
BIN = bin_of(PATH)


class Desktop:
    """A desk with the keys of its hub, a clock of its own, and everything kept in `shelf`."""

    def __init__(self, hub: FakeHub, shelf: MemoryShelf | None = None, policy: Policy | None = None) -> None:
        self.now_ns = NOW
        self.keys = [hub.keys["publisher"]]
        self.shelf = shelf or MemoryShelf()
        self.book = Book(self.shelf, lambda: self.keys, lambda: self.now_ns)
        self.desk = Desk(hub, self.book, policy or Policy())

    def work(self, *, by_policy: bool = True) -> dict[str, str]:
        """One pass."""
        return dict(self.desk.work(by_policy=by_policy))


def target(counter: int = 1, version: int = 1) -> Target:
    """The target that a release becomes."""
    payload = encode(release(version, counter))
    return Target(len(payload), sha256(payload).hexdigest(), counter)


def test_signs_what_the_policy_approves_as_a_target() -> None:
    """The bin lists the request's very bytes by digest, length and counter, and holds under root and targets."""
    hub = FakeHub(request(release()))
    desktop = Desktop(hub)
    assert desktop.work() == {"r1": "signed"}
    targets = hub.newest("targets")[1]
    check_targets(targets, hub.newest("root")[1])
    assert check_bin(hub.newest(BIN)[1], BIN, targets).targets == {PATH: target()}
    assert set(hub.files) == {"root", "targets", *bin_roles()}
    last = desktop.book.last(MODEL)
    assert last is not None
    assert (last.version, last.counter) == (1, 1)


def test_lost_signature_is_repeated_byte_for_byte() -> None:
    """The shelf is written first; after the crash another process hands in the same bin, not a new one."""
    hub = FakeHub()
    desktop = Desktop(hub)
    desktop.work()
    hub.waiting.append(request(release()))
    hub.down = True
    with pytest.raises(HubUnreachableError):
        desktop.work()
    kept = desktop.shelf.read(BIN)
    hub.down = False
    Desktop(hub, desktop.shelf).work()
    assert hub.signed == ["r1"]
    assert hub.newest(BIN) == (2, kept)


def test_second_release_with_the_same_counter_is_refused() -> None:
    """Even in one pass over the desk."""
    hub = FakeHub(request(release()), request(release(2, counter=1), "r2"))
    assert Desktop(hub).work() == {"r1": "signed", "r2": "refused"}
    assert "counter 1 is not above 1" in hub.refusals[0]


def test_manual_approval_waits_but_refuses_what_is_broken() -> None:
    """A person need not look at what may never be signed."""
    broken = msgspec.structs.replace(request(release(), "r2"), version=9)
    hub = FakeHub(request(release()), broken)
    assert Desktop(hub).work(by_policy=False) == {"r1": "waiting", "r2": "refused"}
    assert hub.signed == []


def test_person_may_waive_the_policy_but_not_integrity() -> None:
    """Too large is a matter of taste; another file than measured is not."""
    hub = FakeHub(request(release()))
    Desktop(hub, policy=Policy(max_bytes_ratio=0.1)).desk.approve("r1")
    assert hub.signed == ["r1"]
    swapped = FakeHub(request(release(variants=(variant(data=b"other"),))))
    with pytest.raises(NotApprovableError, match="not the file that was measured"):
        Desktop(swapped).desk.approve("r1")
    assert swapped.signed == []


def test_person_may_refuse_and_long_reasons_are_cut() -> None:
    """The hub keeps 500 characters."""
    hub = FakeHub(request(release()))
    Desktop(hub).desk.refuse("r1", "x" * 900)
    assert hub.refusals == ["x" * 500]


def test_unknown_request_is_named() -> None:
    """A typo on the command line is told."""
    with pytest.raises(UnknownRequestError, match="r7"):
        Desktop(FakeHub()).desk.approve("r7")


class TestRoot:
    """Under whose authority it signs."""

    def test_without_a_root_it_waits_and_says_so(self) -> None:
        """Nothing is signed, nothing refused."""
        hub = FakeHub(request(release()), rooted=False)
        with pytest.raises(NoRootError, match="fleetloop keys init"):
            Desktop(hub).work()
        assert len(hub.waiting) == 1

    def test_a_root_that_names_another_key_is_not_signed_under(self) -> None:
        """Both keys are named, and what to do."""
        hub = FakeHub(request(release()))
        desktop = Desktop(hub)
        desktop.keys = [new_key()]
        with pytest.raises(NotNamedError, match="fleetloop keys rotate"):
            desktop.work()
        assert hub.signed == []

    def test_only_a_root_that_follows_is_believed(self) -> None:
        """A hub that was taken over cannot replace the root, nor show an older one."""
        hub = FakeHub()
        desktop = Desktop(hub)
        desktop.work()
        hub.keys["root 2"] = new_key()
        hub.rotate("root 1", "root 2")
        with pytest.raises(ForeignRootError, match="1 of 2"):
            desktop.work()
        hub.files["root"] = {0: b""}
        with pytest.raises(ForeignRootError, match="has seen version 1"):
            desktop.work()

    @pytest.mark.parametrize("overlap", [False, True])
    def test_a_new_key_takes_over_as_soon_as_the_root_names_it(self, overlap: bool) -> None:
        """Everything is signed again with versions going on; nothing that was signed is lost."""
        hub = FakeHub(request(release()))
        desktop = Desktop(hub)
        desktop.work()
        old, fresh = desktop.keys[0], new_key()
        desktop.keys = [old, fresh]
        hub.rotate(targets=(old.public_hex, fresh.public_hex) if overlap else (fresh.public_hex,))
        desktop.work()
        version, targets = hub.newest("targets")
        assert version == 2
        check_targets(targets, hub.newest("root")[1])
        assert fresh.public_hex.encode() in targets
        assert hub.newest(BIN)[0] == 3
        assert check_bin(hub.newest(BIN)[1], BIN, targets).targets == {PATH: target()}

    def test_versions_begin_anew_on_command(self) -> None:
        """For a fleet whose versions a thief has driven up; the hub decides whether that is acceptable."""
        hub = FakeHub(request(release()))
        desktop = Desktop(hub)
        desktop.work()
        desktop.keys.append(new_key())
        hub.rotate(targets=(desktop.keys[-1].public_hex,))
        hub.files = {"root": hub.files["root"]}
        desktop.desk.agree(restart=True)
        assert {hub.newest(role)[0] for role in ("targets", *bin_roles())} == {1}
        assert hub.targets(PATH) == {PATH: target()}


class TestAgreement:
    """Its own files are the truth."""

    def test_an_idle_pass_hands_in_nothing(self) -> None:
        """Once everything is there."""
        hub = FakeHub()
        desktop = Desktop(hub)
        for _ in range(3):
            desktop.work()
        assert hub.deliveries == 1

    def test_a_hub_that_forgot_gets_everything_again(self) -> None:
        """It shows older documents, which are ours: the newest ones are handed in again."""
        hub = FakeHub()
        desktop = Desktop(hub)
        desktop.work()
        desktop.now_ns += TARGETS_LIFE_S * SECOND * 2 // 3
        desktop.work()
        for role in bin_roles():
            del hub.files[role][2]
        desktop.work()
        assert {hub.newest(role)[0] for role in bin_roles()} == {2}

    def test_genuine_documents_that_it_never_signed_stop_it(self) -> None:
        """Somebody else signs with its key, or its directory came back from an old backup."""
        hub = FakeHub()
        desktop = Desktop(hub)
        desktop.work()
        foreign = make_bin(2, NOW * 2, {PATH: target()}, desktop.keys[0])
        hub.put(BIN, 2, foreign)
        hub.waiting.append(request(release(2, counter=2)))
        with pytest.raises(DisagreementError, match=f"{BIN} version 2"):
            desktop.work()
        assert hub.signed == []
        same = make_bin(1, NOW * 2, {PATH: target()}, desktop.keys[0])
        hub.files[BIN] = {1: same}
        with pytest.raises(DisagreementError, match=f"{BIN} version 1"):
            desktop.work()

    def test_forged_documents_are_no_reason_to_stop(self) -> None:
        """A bin by another key is not genuine: devices refuse it, and ours replaces it."""
        hub = FakeHub()
        desktop = Desktop(hub)
        desktop.work()
        hub.files[BIN] = {1: make_bin(1, NOW * 2, {PATH: target()}, new_key())}
        desktop.work()
        assert hub.targets(PATH) == {}

    def test_what_is_half_over_is_signed_again(self) -> None:
        """And only then."""
        hub = FakeHub(request(release()))
        desktop = Desktop(hub)
        desktop.work()
        desktop.now_ns += TARGETS_LIFE_S * SECOND // 3
        desktop.work()
        assert hub.newest("targets")[0] == 1
        desktop.now_ns += TARGETS_LIFE_S * SECOND // 3
        desktop.work()
        assert hub.newest("targets")[0] == 2
        assert hub.targets(PATH) == {PATH: target()}
