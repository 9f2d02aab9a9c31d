"""What is newer than what a device holds: sent along with the time, so that judging takes one question as a rule.

Nobody has to believe it, and nobody has to send it: what is missing here is asked for by name.
"""

from typing import Final

from sqlalchemy import Connection

from cloud.core.trust import ROOT, SNAPSHOT, TARGETS, TIMESTAMP
from cloud.errors import UnknownError
from cloud.service.trust.rows import file, newest_of
from wire.asks import Holding
from wire.trust import bin_of

MAX_BYTES: Final = 32 * 1024
"""Of all files in one answer: base64 and its envelope stay below the limit of a control document."""
MAX_ROOTS: Final = 4


def newer(conn: Connection, holding: Holding) -> dict[str, bytes | None]:
    """Files by the name that a client asks for, in that order, as far as one answer takes them; None: there is none."""
    files: dict[str, bytes | None] = {}
    held = holding.versions.get(ROOT, 0)
    rows = newest_of(conn, (ROOT, TIMESTAMP, SNAPSHOT, TARGETS, *sorted({bin_of(path) for path in holding.paths})))
    root = rows.pop(ROOT, None)
    newest = 0 if root is None else root.version
    for version in range(held + 1, held + 1 + MAX_ROOTS):
        files[f"{version}.root.json"] = content = _root(conn, version) if version <= newest else None
        if content is None:
            break
    for role, row in rows.items():
        if role == TIMESTAMP or row.version != holding.versions.get(role):
            files["timestamp.json" if role == TIMESTAMP else f"{row.version}.{role}.json"] = bytes(row.content)
    return _within(files)


def _root(conn: Connection, version: int) -> bytes | None:
    try:
        return file(conn, f"{version}.root.json")
    except UnknownError:
        return None


def _within(files: dict[str, bytes | None]) -> dict[str, bytes | None]:
    kept, room = {}, MAX_BYTES
    for name, content in files.items():
        room -= len(content or b"")
        if room < 0:
            break
        kept[name] = content
    return kept
