"""Requests that are made only once, however often they are sent: what carries an Idempotency-Key leaves a row.

The row is written in the transaction of the change, so no repetition can change anything again; the answer is added
when it leaves. Should the hub die in between, or should the answer have held a secret, a repetition is told so.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, delete, select, update

from cloud.errors import ConflictError, InvalidError
from cloud.tables import idempotency
from cloud.upsert import upsert

LIFE_NS = 24 * 3600 * 1_000_000_000
MAX_BODY_BYTES = 1024 * 1024
"""Longer answers are not kept."""


@dataclass(frozen=True, slots=True)
class Once:
    """One request of the holder of `api_key`, under the name `key` that he chose for it."""

    api_key: str
    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def look(conn: Connection, once: Once, now_ns: int) -> Answer | None:
    """The answer to this request, if it was made before. Raises InvalidError, ConflictError."""
    row = conn.execute(select(idempotency).where(_same(once))).one_or_none()
    if row is None or now_ns >= row.created_ns + LIFE_NS:
        return None
    if row.fingerprint != once.fingerprint:
        raise InvalidError(f"Idempotency-Key {once.key!r} belongs to another request: choose a new one")
    if row.status is None:
        why = "and its answer is shown only once" if row.secret else "but its answer was lost, or is still on its way"
        raise ConflictError(
            f"the request with Idempotency-Key {once.key!r} was carried out, {why}: see what it changed"
        )
    return Answer(row.status, row.headers, row.body)


def begin(conn: Connection, once: Once, now_ns: int, *, secret: bool) -> None:
    """Note that this transaction carries the request out. Raises ConflictError when another one has."""
    conn.execute(delete(idempotency).where(idempotency.c.created_ns <= now_ns - LIFE_NS))
    row = {"api_key": once.api_key, "key": once.key, "fingerprint": once.fingerprint}
    mine = upsert(idempotency).values(**row, created_ns=now_ns, secret=secret).on_conflict_do_nothing()
    if not conn.execute(mine).rowcount:
        raise ConflictError(f"the request with Idempotency-Key {once.key!r} is being carried out: ask again")


def finish(conn: Connection, once: Once, answer: Answer) -> None:
    """Keep the answer."""
    values = {"status": answer.status, "headers": dict(answer.headers), "body": answer.body}
    conn.execute(update(idempotency).where(_same(once)).values(values))


def _same(once: Once) -> ColumnElement[bool]:
    return and_(idempotency.c.api_key == once.api_key, idempotency.c.key == once.key)
