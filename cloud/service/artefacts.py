"""Uploads become artefacts: an object that passed its inspection, with what it is.

The order is the rule: all bytes are here, the digest is the one announced, the content was judged in a child process;
only then is it an object, and only then does a row name it. Uploading the same bytes again changes nothing.
"""

from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from cloud.errors import InvalidError, TooLongError, UnavailableError, UnknownError
from cloud.ports import (
    Inspection,
    Inspector,
    InspectorError,
    Objects,
    ObjectStoreError,
    Staged,
    Staging,
    Store,
    UploadTooLongError,
)
from cloud.service import audit
from cloud.service.effects import NOTHING, Change, Effects
from cloud.tables import artefacts, objects
from wire.release import MAX_OBJECT_BYTES


class Artefacts:
    """Takes uploads."""

    def __init__(self, store: Store, objects: Objects, staging: Staging, inspector: Inspector) -> None:
        self._store = store
        self._objects = objects
        self._staging = staging
        self._inspector = inspector

    async def upload(self, sha256: str, parts: AsyncIterator[bytes], actor: str, change: Change) -> bool:
        """Take a file that is announced by its digest, and enter it by means of `change`.

        False: it was here already, and nothing was read.

        Raises:
            TooLongError: more than MAX_OBJECT_BYTES came.
            InvalidError: other bytes than announced came, or the file was refused; nothing of it stays.
            UnavailableError: it could not be inspected or stored.
        """
        if await self._store.read(lambda conn: find(conn, sha256)) is not None:
            return False
        try:
            staged = await self._staging.receive(parts, MAX_OBJECT_BYTES)
        except UploadTooLongError as error:
            raise TooLongError(f"{error}: an artefact may have {MAX_OBJECT_BYTES}") from error
        except OSError as error:
            raise UnavailableError(f"the upload cannot be written: {error.strerror}; see that there is room") from error
        try:
            await self._take(staged, sha256, actor, change)
        finally:
            await self._staging.discard(staged)
        return True

    async def _take(self, staged: Staged, sha256: str, actor: str, change: Change) -> None:
        if staged.sha256 != sha256:
            raise InvalidError(
                f"{staged.bytes} bytes with the digest {staged.sha256} came, announced was {sha256}: upload it again"
            )
        try:
            found = await self._inspector.inspect(staged)
            if found.refusal:
                await change(lambda conn, now_ns: _note_refusal(conn, staged, found.refusal, actor, now_ns))
                raise InvalidError(f"the file is refused: {found.refusal}")
            await self._objects.adopt(staged)
        except (InspectorError, ObjectStoreError) as error:
            raise UnavailableError(str(error)) from error
        await change(lambda conn, now_ns: _enter(conn, staged, found, actor, now_ns))


def find(conn: Connection, sha256: str) -> Row[Any] | None:
    """The artefact with this digest."""
    query = select(artefacts, objects.c.bytes).join(objects, objects.c.sha256 == artefacts.c.sha256)
    return conn.execute(query.where(artefacts.c.sha256 == sha256)).one_or_none()


def length_of(conn: Connection, sha256: str) -> int:
    """Bytes of an object that the registry knows, uploaded or made here. Raises UnknownError."""
    length = conn.scalar(select(objects.c.bytes).where(objects.c.sha256 == sha256))
    if length is None:
        raise UnknownError(f"there is no object {sha256}")
    return int(length)


def _enter(conn: Connection, staged: Staged, found: Inspection, actor: str, now_ns: int) -> Effects:
    if find(conn, staged.sha256) is not None:
        return NOTHING  # somebody else was faster
    if conn.scalar(select(objects.c.sha256).where(objects.c.sha256 == staged.sha256)) is None:
        conn.execute(insert(objects).values(sha256=staged.sha256, bytes=staged.bytes, created_ns=now_ns))
    row = {"sha256": staged.sha256, "kind": found.kind, "facts": dict(found.facts)}
    conn.execute(insert(artefacts).values(row | {"uploaded_by": actor, "created_ns": now_ns}))
    audit.record(conn, now_ns, actor, ("artefact.upload", staged.sha256), kind=found.kind, bytes=staged.bytes)
    return NOTHING


def _note_refusal(conn: Connection, staged: Staged, reason: str, actor: str, now_ns: int) -> Effects:
    audit.record(conn, now_ns, actor, ("artefact.refuse", staged.sha256), bytes=staged.bytes, reason=reason)
    return NOTHING
