"""`fleetloop hub backup` and `restore`: the database and the objects in one directory, whole or not at all.

The database is copied by SQLite's online backup, over a connection that only reads, while the hub works or not; the
objects after it, so that none is missing that the copy names. Trust metadata is in the database. Keys are not in a
backup: neither the publisher's, which the hub does not have, nor the hub's own `keys/`, nor the first API key; they are
kept apart (docs/security.md) and put back before the restored hub starts. Of a PostgreSQL database `pg_dump` makes the
copy; the rest is backed up here, and so it is with objects that are elsewhere (`objects_url`).
"""

import contextlib
import hashlib
import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec

from cloud.settings import Settings

log = logging.getLogger(__name__)

SCHEMA = 1
DATABASE, OBJECTS, MANIFEST = "hub.sqlite", "objects", "backup.json"
PARTIAL = ".partial"
PIECE_BYTES = 1 << 20


class BackupError(Exception):
    """It could not be made or put back; nothing was changed."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds: SHA-256 (hex) of every file by its path in it."""

    schema: int = SCHEMA
    files: dict[str, str]


def backup(settings: Settings) -> None:
    """Copy the hub's state to `settings.backup_dir`. Raises BackupError."""
    source, target = Path(settings.data_dir).resolve(), _named(settings)
    _refuse_unless_empty(target)
    with _appearing(target) as partial:
        files = []
        if settings.database_url:
            log.warning("the database is on PostgreSQL: copy it with pg_dump, before this")
        else:
            files.append(_copy_database(source / DATABASE, partial / DATABASE))
        if settings.objects_url:
            log.warning("the objects are at objects_url: copy them there by what that storage has for it")
        else:
            files += _copy_objects(source / OBJECTS, partial / OBJECTS)
        digests = {str(path.relative_to(partial)): _digest(path) for path in files}
        _write(partial / MANIFEST, msgspec.json.encode(Manifest(files=digests)))
    log.info("backed up %d files to %s; keep a copy of %s apart from it", len(files), target, source / "keys")


def restore(settings: Settings) -> None:
    """Make a new data directory of a backup. Raises BackupError: it is damaged, or the directory is not empty."""
    source, target = _named(settings), Path(settings.data_dir).resolve()
    _refuse_unless_empty(target)
    manifest = _manifest(source)
    if settings.database_url and DATABASE in manifest.files:
        raise BackupError("the backup is of a hub on SQLite: restore it without database_url")
    with _appearing(target) as partial:
        for name, sha256 in sorted(manifest.files.items()):
            _copy_checked(source / name, partial / name, sha256)
    if DATABASE not in manifest.files:
        log.warning("the database was on PostgreSQL: restore it with pg_restore or psql")
    log.info("restored %d files to %s; put the hub's keys back to %s", len(manifest.files), target, target / "keys")


def _named(settings: Settings) -> Path:
    if not settings.backup_dir:
        raise BackupError("where is the backup? Say it with --backup-dir")
    return Path(settings.backup_dir).resolve()


def _refuse_unless_empty(directory: Path) -> None:
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise BackupError(f"{directory} is not empty: choose another directory, nothing is overwritten")


@contextlib.contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A directory beside `target` that becomes it when all went well, durably, and else is removed."""
    partial = target.with_name(target.name + PARTIAL)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True, mode=0o700)
        yield partial
        if target.exists():
            target.rmdir()
        partial.rename(target)
        _sync(target.parent)
    except (OSError, sqlite3.Error) as error:
        raise BackupError(f"{target}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _copy_database(source: Path, target: Path) -> Path:
    """As of one moment; it is judged before it counts as a copy."""
    if not source.is_file():
        raise BackupError(f"there is no hub's database at {source}")
    with (
        contextlib.closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as reading,
        contextlib.closing(sqlite3.connect(target)) as writing,
    ):
        reading.backup(writing)
        writing.execute("PRAGMA journal_mode=DELETE")  # one file, whatever reads it
        (verdict,) = writing.execute("PRAGMA integrity_check").fetchone()
    if verdict != "ok":
        raise BackupError(f"the database {source} is damaged: {verdict}")
    target.chmod(0o600)
    _sync(target)
    return target


def _copy_objects(source: Path, target: Path) -> list[Path]:
    """Those that are whole; a name that is no digest of the content is an upload that did not end."""
    target.mkdir(mode=0o700)
    copied = []
    for path in sorted(source.glob("??/*")):
        if len(path.name) == hashlib.sha256().digest_size * 2:
            made = target / path.relative_to(source)
            _copy_checked(path, made, path.name)
            copied.append(made)
    return copied


def _copy_checked(source: Path, target: Path, sha256: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not source.is_file():
        raise BackupError(f"{source} is missing")
    shutil.copyfile(source, target)
    target.chmod(0o600)
    if _digest(target) != sha256:
        raise BackupError(f"{source} is damaged: its content has changed")
    _sync(target)


def _manifest(source: Path) -> Manifest:
    path = source / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError) as error:
        raise BackupError(f"{source} holds no backup ({MANIFEST}: {error})") from error
    if manifest.schema != SCHEMA:
        raise BackupError(f"{source} was made by a newer hub (schema {manifest.schema}); use that one")
    outside = [name for name in manifest.files if not (source / name).resolve().is_relative_to(source.resolve())]
    if outside:
        raise BackupError(f"{path} names a file outside of the backup: {outside[0]}")
    return manifest


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
