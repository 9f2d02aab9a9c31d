"""The changes that the audit trail holds, for one reader: in the order of their numbers, none missed, none twice.

Several hubs on PostgreSQL draw numbers that they commit in another order, so the newest number says nothing of those
below it. But whoever draws one holds a lock on `leadership` since before (cloud.adapters.postgres_store), and such
locks can be seen. Once all who held one when a number was first seen are done, everything up to that number is decided.
"""

from typing import Any

from sqlalchemy import Connection, Row, func, select, text

from cloud.ports import Store
from cloud.tables import audit

MOST = 500
"""Changes of one look."""
RECENT = 1_000
"""Numbers below the newest one that may still be open when a reader begins."""
_WRITERS = text(
    "SELECT virtualtransaction FROM pg_locks WHERE relation = 'leadership'::regclass AND granted "
    "AND mode IN ('RowShareLock', 'ExclusiveLock')"
)


class Changes:
    """What was changed after the change with the number `seen`; None: from now on."""

    def __init__(self, store: Store, seen: int | None) -> None:
        self._store = store
        self._seen = seen
        self._known: frozenset[int] = frozenset()
        self._upto = 0
        self._open: frozenset[str] = frozenset()
        """Writers that may still commit numbers up to `_upto`."""

    async def look(self) -> list[Row[Any]]:
        """The next ones of which nothing can come before any more; at most MOST."""
        if self._seen is None:
            self._seen = await self._store.read(self._begin)
        elif self._open:
            self._open &= await self._store.read(_writers)
        else:
            self._upto, self._open = await self._store.read(_newest)
        if self._open:
            return []
        rows = await self._store.read(self._decided)
        if rows:
            self._seen = rows[-1].id
        return [row for row in rows if row.id not in self._known]

    def _begin(self, conn: Connection) -> int:
        """What is committed by now is known; what is still open below that is news."""
        self._upto, self._open = _newest(conn)
        if not self._open:
            return self._upto
        recent = select(audit.c.id).where(audit.c.id > self._upto - RECENT)
        self._known = frozenset(conn.execute(recent).scalars())
        return self._upto - RECENT

    def _decided(self, conn: Connection) -> list[Row[Any]]:
        """In a snapshot that is younger than the look at the writers."""
        wanted = (audit.c.id > self._seen) & (audit.c.id <= self._upto)
        return list(conn.execute(select(audit).where(wanted).order_by(audit.c.id).limit(MOST)))


def _newest(conn: Connection) -> tuple[int, frozenset[str]]:
    """The newest number of this snapshot, and who was writing when it had been taken."""
    newest = int(conn.execute(select(func.coalesce(func.max(audit.c.id), 0))).scalar_one())
    return newest, _writers(conn)


def _writers(conn: Connection) -> frozenset[str]:
    """Transactions that may have drawn a number. With SQLite there is one writer: numbers are in order."""
    if conn.dialect.name != "postgresql":
        return frozenset()
    return frozenset(conn.execute(_WRITERS).scalars())
