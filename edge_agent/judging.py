"""Judging the trust metadata, in the installer child: python-tuf's client over whatever answers `fetch`.

It holds to six rules beyond the specification's (TUF 1.0.34): the root of trust always comes from the claim; nothing is
durable here (the daemon writes what is to be held); versions are also held against floors of our own; targets are never
downloaded here; whoever fetches sets the deadlines; expiry is judged by the time in the question, never by the clock.

python-tuf's Updater wants files in a directory, so there is one for the time of a judgement. It has no hook for the
time: `reference_time` of its trusted set is not documented, a test pins it.
"""

import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import msgspec
from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError, RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from edge_agent.adapters.machine import peak_rss_bytes
from edge_agent.core.trust import MAX_HELD_BYTES, Floors, Given, Judgement, KeyHex, Listed, Question, RoleFloor, Said
from wire.asks import AskMetadata, MetadataPiece, Refused
from wire.codec import decode, encode
from wire.ports import SECOND
from wire.trust import (
    DIRECTOR_FIELD,
    MAX_ROOT_BYTES,
    MAX_ROOT_ROTATIONS,
    MAX_SNAPSHOT_BYTES,
    MAX_TARGETS_BYTES,
    MAX_TIMESTAMP_BYTES,
)

_URL: Final = "hub:/"
_ROOTS: Final = "root_history"
_INT64: Final = 1 << 63

Fetch = Callable[[AskMetadata], MetadataPiece | Refused]


def converse(question: Question, folder: str) -> Said:
    """Judge, asking the daemon line by line for what is missing."""

    def fetch(ask: AskMetadata) -> MetadataPiece | Refused:
        sys.stdout.buffer.write(encode(Said(what=ask)) + b"\n")
        sys.stdout.buffer.flush()
        return decode(sys.stdin.buffer.readline(), Given).what

    return Said(what=judge(question, fetch, Path(folder)))


def judge(question: Question, fetch: Fetch, folder: Path) -> Judgement:
    """What the repository behind `fetch` says. Whatever it serves, the outcome is a judgement."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        return _judge(question, _told_before(question, fetch), folder)
    except (OSError, MemoryError) as error:
        return Judgement(refusal=_brief(error), unable=True, floors=question.floors, files=question.files)
    except Exception as error:  # what is held or served is hostile until proven otherwise
        return Judgement(
            refusal=_brief(error), floors=question.floors, files=question.files, rss_bytes=peak_rss_bytes()
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _told_before(question: Question, fetch: Fetch) -> Fetch:
    """Fetch only what was not told: whoever tells it is believed no more than whoever answers."""

    def look(ask: AskMetadata) -> MetadataPiece | Refused:
        if ask.name not in question.told:
            return fetch(ask)
        data = question.told[ask.name]
        if data is None:
            return MetadataPiece(found=False)
        return MetadataPiece(found=True, total=len(data), offset=ask.offset, data=data[ask.offset :])

    return look


def _judge(question: Question, fetch: Fetch, folder: Path) -> Judgement:
    _lay_out(question.files, folder)
    updater = _updater(question, fetch, folder)
    refusal, targets = _ask(updater, question.paths)
    trusted = updater._trusted_set
    floors, fallen = _floors(question.floors, trusted.root, folder)
    roots = _held(folder / _ROOTS, above=Metadata[Root].from_bytes(question.root).signed.version)
    files = {**question.files, **roots} if fallen else {**roots, **_bounded(_held(folder), trusted.__contains__)}
    return Judgement(
        refusal=fallen or refusal,
        fresh=not fallen and Targets.type in trusted,
        floors=floors,
        directors=_directors(trusted.root) if trusted.root.version >= question.floors.root else None,
        files=files,
        targets=() if fallen or refusal else tuple(targets),
        rss_bytes=peak_rss_bytes(),
    )


class RelayFetcher(FetcherInterface):
    """Has the daemon fetch, piece by piece, never more than the length that python-tuf allows."""

    def __init__(self, fetch: Fetch) -> None:
        self._relay = fetch

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """The whole file, in memory: python-tuf would buffer it in a file outside our folder."""
        data = bytearray()
        for piece in self._fetch(url):
            data += piece
            if len(data) > max_length:
                raise DownloadLengthMismatchError(f"{_name(url)}: longer than {max_length} bytes")
        return bytes(data)

    def _fetch(self, url: str) -> Iterator[bytes]:
        offset, total = 0, 1
        while offset < total:
            piece = self._piece(_name(url), offset)
            if offset and piece.total != total:
                raise DownloadError(f"{_name(url)}: changed while it was fetched")
            total = piece.total
            offset += len(piece.data)
            yield piece.data

    def _piece(self, name: str, offset: int) -> MetadataPiece:
        try:
            ask = msgspec.convert({"type": "metadata", "name": name, "offset": offset}, AskMetadata)
        except msgspec.ValidationError as error:
            raise DownloadError(f"{name[:120]!r} is no name of metadata") from error
        answer = self._relay(ask)
        if isinstance(answer, Refused):
            raise DownloadError(f"{name}: {answer.reason}")
        if not answer.found:
            raise DownloadHTTPError(f"{name}: not found", HTTPStatus.NOT_FOUND)
        if answer.offset != offset or not answer.data:
            raise DownloadError(f"{name}: byte {offset} was asked for, {len(answer.data)} from {answer.offset} came")
        return answer


def _name(url: str) -> str:
    return url.removeprefix(_URL)


def _updater(question: Question, fetch: Fetch, folder: Path) -> Updater:
    rotations = sum(_is_root(name) for name in question.files) + MAX_ROOT_ROTATIONS
    config = UpdaterConfig(
        max_root_rotations=rotations,
        root_max_length=MAX_ROOT_BYTES,
        timestamp_max_length=MAX_TIMESTAMP_BYTES,
        snapshot_max_length=MAX_SNAPSHOT_BYTES,
        targets_max_length=MAX_TARGETS_BYTES,
    )
    updater = Updater(str(folder), _URL, fetcher=RelayFetcher(fetch), config=config, bootstrap=question.root)
    updater._trusted_set.reference_time = datetime.fromtimestamp(question.now_ns / SECOND, UTC)
    return updater


def _ask(updater: Updater, paths: Iterable[str]) -> tuple[str, list[Listed]]:
    """Refresh and look the targets up: why that failed, and what was found before."""
    targets = []
    try:
        updater.refresh()
        for path in paths:
            found = updater.get_targetinfo(path)
            if found is not None:
                targets.append(_listed(found))
    except (RepositoryError, DownloadError) as error:
        return _brief(error), targets
    return "", targets


def _listed(found: TargetFile) -> Listed:
    counter = (found.custom or {}).get("counter", 0)
    known = isinstance(counter, int) and 0 <= counter < _INT64
    return Listed(path=found.path, bytes=found.length, hashes=found.hashes, counter=counter if known else 0)


# Floors.


def _floors(before: Floors, root: Root, folder: Path) -> tuple[Floors, str]:
    """The floors from now on, and what lies below those before. Judged on the very files that are to be held."""
    if root.version < before.root:
        return before, f"root: version {root.version} is below {before.root}, verified before"
    timestamp, why = _floor(before.timestamp, root, Timestamp, folder)
    snapshot, why_too = _floor(before.snapshot, root, Snapshot, folder)
    return Floors(root=root.version, timestamp=timestamp, snapshot=snapshot), why or why_too


def _floor(
    before: RoleFloor, root: Root, kind: type[Timestamp] | type[Snapshot], folder: Path
) -> tuple[RoleFloor, str]:
    now = _verified(root, kind, folder / f"{kind.type}.json")
    if now is None:
        return before, ""
    role = root.roles[kind.type]
    if now.version >= _INT64:
        return before, f"{kind.type}: version {now.version} is no version"
    if now.version < before.version and before.holds(role.keyids, role.threshold):
        return before, f"{kind.type}: version {now.version} is below {before.version}, verified before"
    return now, ""


def _verified(root: Root, kind: type[Timestamp] | type[Snapshot], path: Path) -> RoleFloor | None:
    """Version and signers of the file, if the root's keys have signed it."""
    try:
        document = Metadata[Timestamp].from_bytes(path.read_bytes())
        result = root.get_verification_result(kind.type, document.signed_bytes, document.signatures)
    except (OSError, RepositoryError):
        return None
    if not result.verified or document.signed.type != kind.type:
        return None
    return RoleFloor(version=document.signed.version, signers=tuple(sorted(result.signed)))


def _directors(root: Root) -> tuple[str, ...]:
    """The director's keys; none where the field is missing or is not what it should be."""
    try:
        return msgspec.convert(root.unrecognized_fields.get(DIRECTOR_FIELD, ()), tuple[KeyHex, ...])
    except msgspec.ValidationError:
        return ()


# Files.


def _is_root(name: str) -> bool:
    version, _, rest = name.partition(".")
    return version.isdigit() and rest == "root.json"


def _lay_out(files: Mapping[str, bytes], folder: Path) -> None:
    (folder / _ROOTS).mkdir(parents=True, mode=0o700)
    for name, data in files.items():
        place = folder / _ROOTS if _is_root(name) else folder
        (place / Path(name).name).write_bytes(data)


def _held(folder: Path, above: int = 0) -> dict[str, bytes]:
    """The files in the folder; of roots, those above the one that is always at hand. Links are python-tuf's own."""
    found = sorted(path for path in folder.glob("*.json") if path.is_file() and not path.is_symlink())
    return {path.name: path.read_bytes() for path in found if not above or int(path.name.partition(".")[0]) > above}


def _bounded(files: Mapping[str, bytes], used: Callable[[str], bool]) -> dict[str, bytes]:
    """As many as MAX_HELD_BYTES take, those that were of use now before the others, small before large."""
    room, kept = MAX_HELD_BYTES, {}
    for name in sorted(files, key=lambda name: (not used(unquote(name.removesuffix(".json"))), len(files[name]))):
        if len(files[name]) <= room:
            room -= len(files[name])
            kept[name] = files[name]
    return kept


def _brief(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{lines[0][:300]}" if lines else type(error).__name__
