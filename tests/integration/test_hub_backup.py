"""Backup and restore: what was there is there again and goes on; what is damaged or in the way is refused."""

import asyncio
import hashlib
import shutil
import sqlite3
from pathlib import Path

import msgspec
import pytest

from cloud.backup import BackupError, backup, restore
from cloud.main import run
from cloud.settings import Settings
from tests.scenes.hub_steps import counters, fleet, telemetry
from tests.worlds.hub_world import KEYS, ROOT, World


def told(number: int) -> tuple[str, bytes]:
    """Telemetry of the first device."""
    return ROOT.up("p00", "telemetry"), telemetry(number, number, number)


def at(directory: Path, target: Path) -> Settings:
    """Settings of a hub in `directory` with a backup in `target`."""
    return Settings(data_dir=str(directory), backup_dir=str(target))


def names(directory: Path) -> list[str]:
    """All files in it."""
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A backup that was made while the hub was at work, with changes before and after it."""

    async def scenario() -> None:
        async with World(tmp_path / "hub") as world:
            await fleet(world, 2)
            await world.receive(told(1))
            await world.objects.put(b"an object")
            await asyncio.to_thread(backup, at(tmp_path / "hub", tmp_path / "saved"))
            await world.receive(told(2))

    (tmp_path / "hub").mkdir()
    asyncio.run(scenario())
    return tmp_path / "saved"


def test_a_restored_hub_goes_on_where_the_backup_was_made(tmp_path: Path, saved: Path) -> None:
    """Rows, trust metadata and objects; what a device sent since then is taken when it sends it again."""
    restore(at(tmp_path / "new", saved))
    for name in KEYS:
        shutil.copy(tmp_path / "hub" / f"{name}.key", tmp_path / "new" / f"{name}.key")

    async def scenario() -> None:
        async with World(tmp_path / "new", rooted=False) as world:
            assert (await counters(world, "p00")).predictions == 1
            assert await world.objects.get(hashlib.sha256(b"an object").hexdigest()) == b"an object"
            await world.trust.look()
            await world.receive(told(2))
            assert (await counters(world, "p00")).predictions == 2
            await world.enrol("p09")

    asyncio.run(scenario())


def test_no_key_is_in_a_backup(tmp_path: Path, saved: Path) -> None:
    """Database, objects and the list of them; of what is secret not one byte."""
    assert {name.split("/")[0] for name in names(saved)} == {"hub.sqlite", "objects", "backup.json"}
    content = b"".join((saved / name).read_bytes() for name in names(saved))
    for name in KEYS:
        assert (tmp_path / "hub" / f"{name}.key").read_bytes().strip() not in content


def test_nothing_is_ever_overwritten(tmp_path: Path, saved: Path) -> None:
    """Neither a backup nor a hub; and what was there is untouched."""
    before = {name: (saved / name).read_bytes() for name in names(saved)}
    with pytest.raises(BackupError, match="not empty"):
        backup(at(tmp_path / "hub", saved))
    with pytest.raises(BackupError, match="not empty"):
        restore(at(tmp_path / "hub", saved))
    assert {name: (saved / name).read_bytes() for name in names(saved)} == before


def test_the_directory_one_stands_in_will_do(tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name without a parent, for the backup as for the restored hub."""
    for target, action in ((tmp_path / "other", backup), (tmp_path / "new", restore)):
        target.mkdir()
        monkeypatch.chdir(target)
        action(at(tmp_path / "hub", Path()) if action is backup else at(Path(), saved))
        assert "hub.sqlite" in names(target)


def damage_content(saved: Path) -> None:
    """One byte of an object."""
    path = next((saved / "objects").rglob("*/*"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def take_away(saved: Path) -> None:
    """The database."""
    (saved / "hub.sqlite").unlink()


def name_a_file_outside(saved: Path) -> None:
    """A list that leads out of the backup."""
    (saved / "backup.json").write_bytes(msgspec.json.encode({"files": {"../hub/director.key": "0" * 64}}))


def make_it_newer(saved: Path) -> None:
    """A form that is not known here."""
    (saved / "backup.json").write_bytes(msgspec.json.encode({"schema": 2, "files": {}}))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (damage_content, "damaged"),
        (take_away, "missing"),
        (name_a_file_outside, "outside"),
        (make_it_newer, "newer"),
        (shutil.rmtree, "no backup"),
    ],
)
def test_a_backup_that_is_not_whole_restores_nothing(tmp_path: Path, saved: Path, harm, message: str) -> None:  # type: ignore[no-untyped-def]
    """The reason is told, and there is no half-made hub."""
    harm(saved)
    with pytest.raises(BackupError, match=message):
        restore(at(tmp_path / "new", saved))
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob("*.partial"))


def test_a_damaged_database_is_not_backed_up(tmp_path: Path, saved: Path) -> None:
    """Better to learn it now."""
    path = tmp_path / "hub" / "hub.sqlite"
    with sqlite3.connect(path) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    conn.close()
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 6] = b"\xff" * 4096 * 3
    path.write_bytes(content)
    with pytest.raises(BackupError):
        backup(at(tmp_path / "hub", tmp_path / "other"))
    assert not (tmp_path / "other").exists()


def test_the_command_tells_how_it_went(tmp_path: Path, saved: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Exit codes for scripts, and the reason."""
    assert run(msgspec.structs.replace(at(tmp_path / "new", saved), action="restore")) == 0
    assert run(msgspec.structs.replace(at(tmp_path / "new", saved), action="restore")) == 1
    assert "not empty" in caplog.text
    assert run(Settings(action="backup", data_dir=str(tmp_path / "nowhere"))) == 1
    assert "--backup-dir" in caplog.text


def test_objects_that_are_elsewhere_are_left_there(
    tmp_path: Path, saved: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Said, so that nobody believes that they are in it."""
    backup(msgspec.structs.replace(at(tmp_path / "hub", tmp_path / "other"), objects_url="s3://bucket/objects"))
    assert "objects_url" in caplog.text
    assert names(tmp_path / "other") == ["backup.json", "hub.sqlite"]


def test_of_postgresql_the_objects_are_saved_and_the_rest_is_told(
    tmp_path: Path, saved: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The database's own tool makes its copy."""
    settings = msgspec.structs.replace(at(tmp_path / "hub", tmp_path / "other"), database_url="postgresql://hub@host/x")
    backup(settings)
    assert "pg_dump" in caplog.text
    assert {name.split("/")[0] for name in names(tmp_path / "other")} == {"objects", "backup.json"}
    restore(msgspec.structs.replace(settings, data_dir=str(tmp_path / "new"), backup_dir=str(tmp_path / "other")))
    assert {name.split("/")[0] for name in names(tmp_path / "new")} == {"objects"}
