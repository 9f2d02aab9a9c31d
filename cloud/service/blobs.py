"""Retained chunks: the hub publishes each chunk of an object once, as long as a rollout or federated run needs it.

What is needed follows from the database; what the broker holds is remembered per connection, because it may have lost
everything when it was away. Objects are noted before they are published, so they are cleared again after any restart.
The broker keeps it all in memory: there is a limit, beyond which devices get their chunks by asking (`chunk_answers`).
"""

import asyncio

from sqlalchemy import Connection, bindparam, delete, select

from cloud.ports import ObjectMissingError, Objects, Publisher, Store
from cloud.service.needs import Needed, needed_objects, within
from cloud.tables import retained
from cloud.upsert import upsert
from wire.topics import Topics
from wire.transfer.chunks import CHUNK_BYTES, count, wrap

MAX_RETAINED_BYTES = 64 * 1024 * 1024
IN_FLIGHT = 8
"""Chunks on their way to the broker at a time: other messages find their way between them, and memory stays small."""

_RETAINED = select(retained.c.sha256, retained.c.bytes).order_by(retained.c.sha256)
_ENTRY = upsert(retained)
_HELD = _ENTRY.on_conflict_do_update(index_elements=["sha256"], set_={"used_ns": _ENTRY.excluded.used_ns})
_CLEARED = delete(retained).where(retained.c.sha256 == bindparam("of"))


class Blobs:
    """Keeps the broker's retained chunks equal to what is needed."""

    def __init__(self, store: Store, objects: Objects, link: Publisher, topics: Topics) -> None:
        self._store = store
        self._objects = objects
        self._link = link
        self._topics = topics
        self._held: set[str] = set()

    def broker_forgot(self) -> None:
        """The connection is new: assume that the broker holds nothing."""
        self._held.clear()

    async def sync(self) -> None:
        """Clear what nobody needs, publish what is missing, small objects first.

        Raises:
            LinkError: calling again goes on.
            ObjectMissingError: one is gone or damaged; all others were published.
        """
        all_needed, held = await self._store.read(lambda conn: (needed_objects(conn), _retained(conn)))
        needed = within(all_needed, MAX_RETAINED_BYTES)
        wanted = {one.sha256 for one in needed}
        for sha256, length in held.items():
            if sha256 not in wanted:
                await self._clear(sha256, length)
        problem: ObjectMissingError | None = None
        for one in sorted(needed, key=lambda one: one.bytes):
            try:
                await self._publish(one)
            except ObjectMissingError as error:
                problem = error
        if problem is not None:
            raise problem

    async def _publish(self, one: Needed) -> None:
        if one.sha256 in self._held:
            return
        length = await self._objects.verify(one.sha256)
        await self._store.write(lambda conn: _note(conn, one, length))
        total = count(length)
        for first in range(0, total, IN_FLIGHT):
            data = await self._objects.piece(one.sha256, first * CHUNK_BYTES, IN_FLIGHT * CHUNK_BYTES)
            parts = (data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES))
            await self._retain(one.sha256, {first + at: wrap(part, first + at, total) for at, part in enumerate(parts)})
        self._held.add(one.sha256)

    async def _clear(self, sha256: str, length: int) -> None:
        self._held.discard(sha256)
        total = count(length)
        for first in range(0, total, IN_FLIGHT):
            await self._retain(sha256, dict.fromkeys(range(first, min(total, first + IN_FLIGHT)), b""))
        await self._store.write(lambda conn: conn.execute(_CLEARED, {"of": sha256}))

    async def _retain(self, sha256: str, payloads: dict[int, bytes]) -> None:
        publish, topic = self._link.publish, self._topics.blob
        await asyncio.gather(
            *(publish(topic(sha256, index), payload, retain=True) for index, payload in payloads.items())
        )


def _retained(conn: Connection) -> dict[str, int]:
    return {row.sha256: row.bytes for row in conn.execute(_RETAINED)}


def _note(conn: Connection, one: Needed, length: int) -> None:
    conn.execute(_HELD, {"sha256": one.sha256, "bytes": length, "used_ns": one.used_ns})
