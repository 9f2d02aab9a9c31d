"""The judgement of trust metadata, as the installer child makes it, against honest and hostile repositories."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root

from edge_agent.core.trust import Floors, Judgement, Question
from edge_agent.judging import judge
from simulator.fakes.tuf_repository import TufRepository, new_key
from tests.worlds.trust_world import DIRECTOR, NOW_NS, ROOT, STRANGER, fork, piece
from wire.adapters.tuf_root import sign_root
from wire.adapters.tuf_sealing import seal
from wire.asks import AskMetadata, MetadataPiece, Refused
from wire.ports import SECOND
from wire.trust import DAY_S, DIRECTOR_FIELD, bin_of

ONE, TWO = "watch/1.json", "watch/2.json"
Serve = Callable[[AskMetadata], MetadataPiece | Refused]


@dataclass
class Client:
    """A device as far as the judgement goes: what it holds, its floors, and the time."""

    folder: Path
    files: dict[str, bytes] = field(default_factory=dict)
    floors: Floors = field(default_factory=Floors)
    now_ns: int = NOW_NS
    asked: list[str] = field(default_factory=list)
    received: int = 0

    def judge(self, served: TufRepository | dict[str, bytes] | Serve, *paths: str) -> Judgement:
        """One judgement; what it found is kept as the agent keeps it."""
        files = served.files if isinstance(served, TufRepository) else served
        self.asked.clear()
        self.received = 0

        def fetch(ask: AskMetadata) -> MetadataPiece | Refused:
            self.asked.append(ask.name)
            answer = files(ask) if callable(files) else piece(files, ask)
            self.received += len(answer.data) if isinstance(answer, MetadataPiece) else 0
            return answer

        question = Question(root=ROOT, files=self.files, floors=self.floors, now_ns=self.now_ns, paths=paths)
        judgement = judge(question, fetch, self.folder / "work")
        assert not (self.folder / "work").exists()
        self.files, self.floors = judgement.files, judgement.floors
        return judgement


@pytest.fixture
def client(tmp_path: Path) -> Client:
    """A device that has seen nothing but its claim."""
    return Client(tmp_path)


@pytest.fixture
def repository() -> TufRepository:
    """One that lists version 1."""
    one = fork()
    one.add(ONE, b"release one", 1)
    return one


def test_what_the_publisher_lists_is_found_with_its_counter_and_nothing_else(
    client: Client, repository: TufRepository
) -> None:
    """And the director's keys, and versions, with a poll of two small files when nothing is new."""
    judgement = client.judge(repository, ONE, TWO)
    assert judgement.refusal == ""
    assert judgement.fresh
    assert [(one.path, one.bytes, one.counter) for one in judgement.targets] == [(ONE, 11, 1)]
    assert judgement.directors == (DIRECTOR.public_hex,)
    assert (client.floors.root, client.floors.timestamp.version, client.floors.snapshot.version) == (1, 2, 2)
    assert client.judge(repository, ONE).fresh
    assert client.asked == ["2.root.json", "timestamp.json"]
    assert client.received < 1_000


DAMAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "ok": lambda data: data,
    "empty": lambda data: b"",
    "absent": lambda data: None,
}


def test_no_damage_to_what_is_held_lets_an_older_state_in_or_keeps_the_present_one_out(
    client: Client, repository: TufRepository
) -> None:
    """Every file whole, empty or absent, 81 ways: a replay is refused each time, the honest repository never."""
    client.judge(repository, ONE)
    older = dict(repository.files)
    repository.add(TWO, b"release two", 2)
    client.judge(repository, TWO)
    held, floors = client.files, client.floors
    names = ["timestamp.json", "snapshot.json", "targets.json", f"{bin_of(TWO)}.json"]
    assert set(names) <= set(held)
    for kinds in itertools.product(DAMAGE, repeat=len(names)):
        damaged = {name: DAMAGE[kind](held[name]) for name, kind in zip(names, kinds, strict=True)}
        files = {name: data for name, data in {**held, **damaged}.items() if data is not None}
        replayed = replace(client, files=files, floors=floors, asked=[])
        judgement = replayed.judge(older, ONE)
        assert judgement.refusal, kinds
        assert judgement.targets == ()
        assert not judgement.fresh
        assert replayed.floors == floors
        healed = replace(client, files=files, floors=floors, asked=[]).judge(repository, TWO)
        assert (healed.refusal, healed.fresh, len(healed.targets)) == ("", True, 1), kinds


def test_a_root_that_was_followed_once_is_never_left_again(client: Client, repository: TufRepository) -> None:
    """Also when everything held was lost and the server says that there is no second root."""
    older = dict(repository.files)
    repository.director_keys = (STRANGER.public_hex,)
    repository.rotate()
    assert client.judge(repository).directors == (STRANGER.public_hex,)
    client.files = {}
    judgement = client.judge(older, ONE)
    assert judgement.refusal == "root: version 1 is below 2, verified before"
    assert judgement.directors is None
    assert client.floors.root == 2


def test_a_root_needs_two_of_the_old_keys_and_two_of_its_own(client: Client, repository: TufRepository) -> None:
    """One of two is not enough, on either side; enough of both is."""
    old = repository.root_keys
    repository.root_keys = [new_key(), new_key(), new_key()]
    two_of_new = repository.rotate()
    one_of_old = sign_root(two_of_new, old[0])
    for short in (two_of_new, one_of_old):
        repository.files["2.root.json"] = short
        assert "/2 keys" in client.judge(repository).refusal
        assert client.floors.root == 1
    repository.files["2.root.json"] = sign_root(one_of_old, old[1])
    assert client.judge(repository).fresh
    assert client.floors.root == 2


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_a_fast_forward_with_a_stolen_online_key_is_undone_by_a_root_that_replaces_it(
    role: str, client: Client, repository: TufRepository
) -> None:
    """While the key is good its enormous version stands; with the new key versions may begin again at one."""
    client.judge(repository, ONE)
    honest = fork(repository)
    repository.versions[role] = 2**40
    repository.refresh()
    assert client.judge(repository).fresh
    assert "version" in client.judge(honest).refusal
    honest.online_key = new_key()
    honest.rotate()
    honest.versions |= {"timestamp": 0, "snapshot": 0}
    honest.refresh()
    assert client.judge(honest, ONE).refusal == ""
    assert client.floors.timestamp.version == client.floors.snapshot.version == 1
    assert client.judge(repository).refusal, "what the stolen key signed is dead"


def test_floors_are_not_reset_by_a_root_that_keeps_the_online_key(client: Client, repository: TufRepository) -> None:
    """A root that replaces something else is no reason to forget."""
    older = dict(repository.files)
    repository.refresh()
    client.judge(repository)
    repository.director_keys = (STRANGER.public_hex,)
    repository.rotate()
    client.files = {}
    replay = {**older, "2.root.json": repository.root}
    assert client.judge(replay).refusal == "timestamp: version 2 is below 3, verified before"
    assert client.floors.root == 2, "the root itself is good"


def test_expiry_is_judged_by_the_time_in_the_question_alone(client: Client, repository: TufRepository) -> None:
    """Pins python-tuf's undocumented `reference_time`: a day on, the same metadata is expired; by 1970 it is not."""
    assert client.judge(repository, ONE).fresh
    client.now_ns = NOW_NS + (DAY_S + 1) * SECOND
    judgement = client.judge(repository, ONE)
    assert "timestamp.json is expired" in judgement.refusal
    assert (judgement.fresh, judgement.targets) == (False, ())
    client.now_ns = 0
    assert client.judge(repository, ONE).fresh
    client.now_ns = 4_070_908_800 * SECOND
    assert "expired" in client.judge(repository, ONE).refusal


def test_a_rotation_is_followed_even_where_everything_else_has_expired(
    client: Client, repository: TufRepository
) -> None:
    """The director's new key must reach devices that were long away, or whose time is wrong."""
    repository.director_keys = (STRANGER.public_hex,)
    repository.rotate()
    client.now_ns = NOW_NS + 30 * DAY_S * SECOND
    judgement = client.judge(repository)
    assert "expired" in judgement.refusal
    assert judgement.directors == (STRANGER.public_hex,)
    assert client.floors.root == 2


def test_documents_of_different_times_do_not_mix(client: Client, repository: TufRepository) -> None:
    """An old bin under a new snapshot, and an old snapshot under a new timestamp, are refused."""
    name = bin_of(ONE)
    old = {
        "bin": repository.files[f"{repository.versions[name]}.{name}.json"],
        "snapshot": repository.files["2.snapshot.json"],
    }
    repository.add(ONE, b"release one, again", 1)
    mixed = {**repository.files, f"{repository.versions[name]}.{name}.json": old["bin"]}
    assert client.judge(mixed, ONE).targets == ()
    client.files = {}
    assert client.judge({**repository.files, "3.snapshot.json": old["snapshot"]}, ONE).refusal
    assert client.judge(repository, ONE).refusal == ""


def test_keys_sign_for_their_own_role_only(client: Client, repository: TufRepository) -> None:
    """Neither the online key nor a stranger lists targets; the publisher's key signs no timestamp."""
    for stolen in (repository.online_key, new_key()):
        forged = fork(repository)
        forged.targets_key = stolen
        forged.add(TWO, b"evil", 9)
        judgement = client.judge(forged, TWO)
        assert "was signed by 0/1 keys" in judgement.refusal
        assert judgement.targets == ()
    other = fork(repository)
    other.online_key = repository.targets_key
    other.refresh()
    assert replace(client, files={}, floors=Floors()).judge(other).refusal


ENDLESS = 1 << 40


def endless(ask: AskMetadata) -> MetadataPiece:
    """As much as anybody takes."""
    return MetadataPiece(found=True, total=ENDLESS, offset=ask.offset, data=b" " * 24_576)


@pytest.mark.parametrize("victim", ["2.root.json", "timestamp.json", "2.snapshot.json", "1.targets.json"])
def test_endless_metadata_ends_at_its_limit(victim: str, client: Client, repository: TufRepository) -> None:
    """Whichever file it is, after little more than that file may have."""

    def serve(ask: AskMetadata) -> MetadataPiece:
        return endless(ask) if ask.name == victim else piece(repository.files, ask)

    assert client.judge(serve, ONE).refusal
    assert client.received < 3 * 1024 * 1024


LIES: dict[str, Callable[[MetadataPiece], MetadataPiece | Refused]] = {
    "another offset": lambda good: MetadataPiece(found=True, total=good.total, offset=good.offset + 1, data=good.data),
    "nothing in it": lambda good: MetadataPiece(found=True, total=good.total, offset=good.offset),
    "no": lambda good: Refused(reason="not today"),
    "garbage": lambda good: MetadataPiece(found=True, total=4, data=b"\xff{}\x00"),
    "deep nesting": lambda good: MetadataPiece(found=True, total=4_000, data=b"[" * 4_000),
    "half of it": lambda good: MetadataPiece(
        found=True, total=len(good.data) // 2, data=good.data[: len(good.data) // 2]
    ),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("victim", ["2.root.json", "timestamp.json", "2.snapshot.json"])
def test_an_answer_that_is_none_is_a_refusal_and_harms_nothing(
    victim: str, lie: str, client: Client, repository: TufRepository
) -> None:
    """And the honest repository is believed afterwards."""
    repository.rotate()

    def serve(ask: AskMetadata) -> MetadataPiece | Refused:
        good = piece(repository.files, ask)
        return LIES[lie](good) if ask.name == victim else good

    assert client.judge(serve, ONE).refusal
    assert client.judge(repository, ONE).fresh


def test_a_file_that_changes_between_its_pieces_is_refused(client: Client, repository: TufRepository) -> None:
    """Its length is what gives it away here; its signature would, too."""

    def serve(ask: AskMetadata) -> MetadataPiece:
        good = piece(repository.files, ask, most=100)
        return replace_total(good, good.total + 1) if ask.name == "2.snapshot.json" and ask.offset else good

    assert "changed while it was fetched" in client.judge(serve, ONE).refusal


def replace_total(good: MetadataPiece, total: int) -> MetadataPiece:
    """The same piece of a file of another length."""
    return MetadataPiece(found=True, total=total, offset=good.offset, data=good.data)


def test_a_version_that_is_no_number_of_ours_is_refused_and_not_held(client: Client, repository: TufRepository) -> None:
    """A stolen online key can sign 2^70; a record could not hold that."""
    client.judge(repository)
    repository.versions["timestamp"] = 2**70
    repository.refresh()
    judgement = client.judge(repository)
    assert "is no version" in judgement.refusal
    assert client.floors.timestamp.version == 2


def test_a_root_without_a_director_leaves_nobody_who_may_assign(client: Client, repository: TufRepository) -> None:
    """It is the root's word; the next root can say otherwise."""
    for directors in ("nonsense", ["ab"], None):
        root = Metadata[Root].from_bytes(repository.rotate()).signed
        root.unrecognized_fields = {DIRECTOR_FIELD: directors}
        repository.files[f"{root.version}.root.json"] = sign_root(
            seal(root, repository.root_keys[0]), repository.root_keys[1]
        )
        judgement = client.judge(repository)
        assert (judgement.directors, judgement.fresh) == ((), True)
