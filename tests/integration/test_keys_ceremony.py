"""`fleetloop keys` on real files: keys apart from each other, thresholds, passphrases, and what is refused."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from fleetloop.keys.main import run
from fleetloop.keys.settings import Settings
from simulator.fakes.tuf_repository import new_key
from wire.adapters.keys import load_or_create
from wire.adapters.tuf_root import check_root, keys_of
from wire.errors import MalformedError


class Ceremony:
    """One directory of roots, and short words for what is done in it."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.publisher, self.online, self.director = (new_key().public_hex for _ in range(3))
        self._capsys = capsys

    def __call__(self, action: Any, **options: Any) -> str:
        """Run an action; what it printed."""
        self._capsys.readouterr()
        assert run(Settings(action=action, **{"keys_dir": str(self.directory), **options})) == 0
        return self._capsys.readouterr().out

    def init(self, **options: Any) -> str:
        """The first root, offline."""
        named = {"publisher": (self.publisher,), "online": (self.online,), "director": (self.director,)}
        return self("init", **{**named, **options})

    def root(self, version: int) -> bytes:
        """The root of this version."""
        return (self.directory / f"{version}.root.json").read_bytes()


@pytest.fixture
def ceremony(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Ceremony:
    """An empty directory."""
    return Ceremony(tmp_path / "keys", capsys)


def test_one_command_makes_three_keys_and_a_complete_root(ceremony: Ceremony) -> None:
    """Two of three, each in a file for its owner only; hub and publisher are named."""
    said = ceremony.init()
    assert check_root(ceremony.root(1), None).version == 1
    keys = keys_of(ceremony.root(1))
    assert (len(keys.root), keys.threshold) == (3, 2)
    assert (keys.targets, keys.online, keys.director) == (
        (ceremony.publisher,),
        (ceremony.online,),
        (ceremony.director,),
    )
    files = sorted(ceremony.directory.glob("root-*.key"))
    assert len(files) == 3
    for file, public in zip(files, keys.root, strict=True):
        assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
        assert load_or_create(file).public_hex == public
        assert file.read_text().strip() not in said


def test_keys_on_different_machines_sign_one_after_the_other(ceremony: Ceremony, tmp_path: Path) -> None:
    """Made apart, never in one place: two signatures complete the root, and what is missing is said."""
    files = [tmp_path / f"machine-{number}" / "root.key" for number in (1, 2, 3)]
    publics = tuple(ceremony("new", key_file=str(file)).strip() for file in files)
    assert "needs 2 of the new root keys" in ceremony.init(root_keys=publics)
    assert "needs 1 of the new root keys" in ceremony("sign", key_file=str(files[2]))
    with pytest.raises(MalformedError, match="have signed it already"):
        ceremony("sign", key_file=str(files[2]))
    assert "complete" in ceremony("sign", key_file=str(files[0]))
    assert check_root(ceremony.root(1), None).version == 1
    said = ceremony("rotate", role="online", add=(new_key().public_hex,), remove=(ceremony.online,))
    assert "needs 2 of the old root keys and 2 of the new root keys" in said
    with pytest.raises(MalformedError, match="not complete yet"):
        ceremony("rotate")
    ceremony("sign", key_file=str(files[1]))
    ceremony("sign", key_file=str(files[2]))
    assert check_root(ceremony.root(2), ceremony.root(1)).version == 2


def test_a_stolen_root_key_is_replaced_by_the_other_two(ceremony: Ceremony, tmp_path: Path) -> None:
    """The thief's key is gone from the next root, and could not have stopped it."""
    ceremony.init()
    (ceremony.directory / "root-1.key").rename(tmp_path / "stolen")
    fresh = ceremony("new", key_file=str(ceremony.directory / "root-4.key")).strip()
    stolen = load_or_create(tmp_path / "stolen").public_hex
    assert "complete" in ceremony("rotate", role="root", add=(fresh,), remove=(stolen[:10],))
    assert check_root(ceremony.root(2), ceremony.root(1)).version == 2
    keys = keys_of(ceremony.root(2)).root
    assert stolen not in keys
    assert keys[-1] == fresh


def test_a_rotation_without_a_role_only_renews(ceremony: Ceremony) -> None:
    """The same keys, a later end."""
    ceremony.init()
    ceremony("rotate")
    assert keys_of(ceremony.root(2)) == keys_of(ceremony.root(1))
    assert "root version 1" in ceremony("show")
    assert "root version 2" in ceremony("show")


def test_a_passphrase_protects_the_key_files(ceremony: Ceremony, tmp_path: Path) -> None:
    """Without it, or with another, nothing is signed; no file holds the key in the clear."""
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("correct horse\n")
    wrong.write_text("battery staple\n")
    ceremony.init(passphrase_file=str(right))
    for file in ceremony.directory.glob("root-*.key"):
        assert file.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    with pytest.raises(MalformedError, match="encrypted: name a passphrase_file"):
        ceremony("rotate")
    with pytest.raises(MalformedError, match="wrong passphrase"):
        ceremony("rotate", passphrase_file=str(wrong))
    assert "complete" in ceremony("rotate", passphrase_file=str(right))


@pytest.mark.parametrize(
    ("action", "options", "words"),
    [
        ("init", {}, "has a root already"),
        ("new", {}, "key_file is not set"),
        ("new", {"key_file": "{dir}/root-1.key"}, "never overwritten"),
        ("rotate", {"add": ("a" * 64,)}, "role is not set"),
        ("rotate", {"role": "online", "remove": ("ffff0000",)}, "names no single online key"),
        ("rotate", {"role": "targets", "remove": ("",)}, "at least one key"),
        ("rotate", {"role": "targets", "add": ("zz" * 32,)}, "not an ed25519 public key"),
        ("rotate", {"role": "targets", "add": ("/nowhere.pub",)}, "nowhere.pub"),
        ("rotate", {"role": "root", "remove": ("{root0}", "{root1}")}, "cannot give 2 signatures"),
        ("sign", {"key_file": "{dir}/1.root.json"}, "no ed25519 key"),
        ("sign", {"key_file": "/nowhere.key"}, "nowhere.key"),
        ("push", {}, "api_key_file is not set"),
        ("show", {"keys_dir": "/nowhere"}, "has no root: `fleetloop keys init`"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    ceremony: Ceremony, action: str, options: dict[str, Any], words: str
) -> None:
    """With what to do instead."""
    ceremony.init()
    root = keys_of(ceremony.root(1)).root
    given = {name: _filled(value, ceremony, root) for name, value in options.items()}
    before = {path: path.read_bytes() for path in ceremony.directory.iterdir()}
    with pytest.raises(MalformedError, match=words):
        ceremony(action, **given)
    assert {path: path.read_bytes() for path in ceremony.directory.iterdir()} == before


def test_a_first_root_wants_to_know_hub_and_publisher(ceremony: Ceremony) -> None:
    """Nothing is made before it is clear for whom."""
    with pytest.raises(MalformedError, match=r"publisher\.pub"):
        ceremony("init", online=(ceremony.online,), director=(ceremony.director,))
    with pytest.raises(MalformedError, match="set api_key_file to ask it"):
        ceremony("init", publisher=(ceremony.publisher,))
    assert not ceremony.directory.exists()


def test_a_hub_that_is_away_is_told_apart(ceremony: Ceremony, tmp_path: Path) -> None:
    """Exit code 1: trying again may help."""
    key = tmp_path / "admin.key"
    key.write_text("flk_x")
    settings = Settings(
        action="push", keys_dir=str(tmp_path), hub_url="http://127.0.0.1:1", api_key_file=str(key)
    )  # fmt: skip
    assert run(settings) == 1


def _filled(value: Any, ceremony: Ceremony, root: tuple[str, ...]) -> Any:
    if isinstance(value, tuple):
        return tuple(_filled(one, ceremony, root) for one in value)
    return value.replace("{dir}", str(ceremony.directory)).replace("{root0}", root[0]).replace("{root1}", root[1])
