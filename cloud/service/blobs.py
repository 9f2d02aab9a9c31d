"""Retained chunks: the hub publishes each chunk of an object once, as long as a rollout or federated run needs it.

What is needed follows from the database; what the broker holds is remembered per connection, because it may have lost
everything when it was away. Objects are noted before they are published, so they are cleared again after any restart.
"""

from typing import NamedTuple

from sqlalchemy import Connection, Select, delete, insert, select

from cloud.core.rollout import ACTIVE
from cloud.ports import Objects, Store
from cloud.tables import desired, devices, federated_runs, members, objects, retained, rollouts, slots, versions
from wire.assignment import Assignment
from wire.codec import MAX_ASSIGNMENT_BYTES, MAX_RELEASE_BYTES, decode
from wire.messages import Phase
from wire.ports import Link
from wire.release import Release
from wire.topics import Topics
from wire.transfer.chunks import count, frames

MAX_RETAINED_BYTES = 64 * 1024 * 1024
INSTALLING = (Phase.FETCHING_RELEASE, Phase.FETCHING, Phase.VERIFYING, Phase.TRIAL)


class Blobs:
    """Keeps the broker's retained chunks equal to what is needed."""

    def __init__(self, store: Store, objects: Objects, link: Link, topics: Topics) -> None:
        self._store = store
        self._objects = objects
        self._link = link
        self._topics = topics
        self._held: set[str] = set()

    def broker_forgot(self) -> None:
        """The connection is new: assume that the broker holds nothing."""
        self._held.clear()

    async def sync(self) -> None:
        """Publish what is missing, clear what nobody needs. Raises LinkError; calling again goes on."""
        needed = await self._store.read(needed_objects)
        known = await self._store.read(_retained)
        for sha256 in needed:
            if sha256 not in self._held:
                await self._publish(sha256)
        for sha256, length in known.items():
            if sha256 not in needed:
                await self._clear(sha256, length)

    async def _publish(self, sha256: str) -> None:
        data = await self._objects.get(sha256)
        await self._store.write(lambda conn: _note(conn, sha256, len(data)))
        for index, payload in enumerate(frames(data)):
            await self._link.publish(self._topics.blob(sha256, index), payload, retain=True)
        self._held.add(sha256)

    async def _clear(self, sha256: str, length: int) -> None:
        self._held.discard(sha256)
        for index in range(count(length)):
            await self._link.publish(self._topics.blob(sha256, index), b"", retain=True)
        await self._store.write(lambda conn: conn.execute(delete(retained).where(retained.c.sha256 == sha256)))


def needed_objects(conn: Connection) -> tuple[str, ...]:
    """Digests of the objects that devices may ask for now, at most MAX_RETAINED_BYTES in all."""
    wanted = dict.fromkeys(sha256 for need in sorted(_needs(conn)) for sha256 in _files(conn, need))
    lengths = {row.sha256: row.bytes for row in conn.execute(select(objects.c.sha256, objects.c.bytes))}
    chosen, total = [], 0
    for sha256 in wanted:
        total += lengths.get(sha256, 0)
        if total <= MAX_RETAINED_BYTES:
            chosen.append(sha256)
    return tuple(chosen)


class _Need(NamedTuple):
    """A version that devices fetch from: to run `variant` ("" = the chosen one), or to learn."""

    model: str
    version: int
    learning: bool
    variant: str


def _needs(conn: Connection) -> set[_Need]:
    """What active rollouts, executions under way, devices that are late and federated runs need."""
    columns = select(rollouts.c.model, rollouts.c.version, rollouts.c.plan)
    active = columns.where(rollouts.c.state.in_(sorted(ACTIVE)))
    under_way = columns.join(members, members.c.rollout == rollouts.c.id).where(
        members.c.assigned_ns.is_not(None), members.c.outcome.is_(None)
    )
    late = {
        _Need(slot.model, slot.version, False, slot.variant)
        for document in conn.execute(_late()).scalars()
        for slot in decode(document, Assignment, limit=MAX_ASSIGNMENT_BYTES).slots
    }
    learning = select(federated_runs.c.model, federated_runs.c.version).where(federated_runs.c.state == "running")
    running = [row for query in (active, under_way) for row in conn.execute(query)]
    needs = {_Need(row.model, row.version, False, row.plan["variant"] or "") for row in running}
    return needs | late | {_Need(row.model, row.version, True, "") for row in conn.execute(learning)}


def _late() -> Select[bytes]:
    """Assignments of devices that are there and not done, whatever became of the rollout: new or reset hardware too."""
    installing = select(slots.c.device).where(slots.c.phase.in_(INSTALLING))
    behind = (devices.c.reported_sequence < desired.c.sequence) | devices.c.name.in_(installing)
    return (
        select(desired.c.assignment).join(devices, devices.c.name == desired.c.device).where(devices.c.online, behind)
    )


def _files(conn: Connection, need: _Need) -> list[str]:
    here = (versions.c.model == need.model) & (versions.c.version == need.version)
    row = conn.execute(select(versions).where(here)).one()
    release = decode(row.release, Release, limit=MAX_RELEASE_BYTES)
    companions = release.companions
    if need.learning:
        files = (companions.parameters, companions.train_step, companions.eval)
    else:
        variant = release.variant(need.variant or row.chosen)
        files = (companions.golden, variant.file if variant is not None else None, None)
    return [row.release_ref["sha256"], *(ref.sha256 for ref in files if ref is not None)]


def _retained(conn: Connection) -> dict[str, int]:
    return {row.sha256: row.bytes for row in conn.execute(select(retained).order_by(retained.c.sha256))}


def _note(conn: Connection, sha256: str, length: int) -> None:
    known = conn.execute(select(retained.c.sha256).where(retained.c.sha256 == sha256)).one_or_none()
    if known is None:
        conn.execute(insert(retained).values(sha256=sha256, bytes=length))
