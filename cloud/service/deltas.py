"""Deltas for rollouts: a device that holds another file of the slot gets what turns it into the one wanted.

Which deltas a rollout could use follows from what its devices report when a wave begins or somebody joins; each is made
once, whether it was worth it is remembered, and a rollout assigns nobody before its deltas are decided. A delta that
cannot be made or stored is not worth it: the whole object serves.
"""

import functools
import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, func, null, select

from cloud.core.rollout import RolloutState
from cloud.many import among
from cloud.ports import DeltaError, DeltaMaker, ObjectMissingError, Objects, ObjectStoreError, Store
from cloud.service import releases
from cloud.tables import deltas, members, objects, rollouts, slots, versions
from cloud.upsert import upsert
from wire.assignment import Delta
from wire.ports import Clock
from wire.release import ObjectRef, Variant, object_ref

log = logging.getLogger(__name__)

MIN_BYTES = 256 * 1024
"""Of the target: below it, the whole object is a matter of seconds on any link."""
WORTH = 0.9
"""A delta must be no more than this share of the target."""
MAX_BASES = 4
"""Files that a rollout starts from, those on most devices first; devices with another one get the whole object."""

_OFFERED = (
    select(slots.c.device, deltas)
    .join(slots, slots.c.sha256 == deltas.c.base)
    .where(among(slots.c.device, "names"), slots.c.slot == bindparam("slot"), among(deltas.c.target, "targets"))
    .order_by(slots.c.device, deltas.c.target)
)
_CHOSEN = select(versions.c.release, versions.c.chosen).where(
    versions.c.model == bindparam("model"), versions.c.version == bindparam("version")
)

Pair = tuple[str, str]
"""Digests of base and target."""


def offered(conn: Connection, wanted: Mapping[str, Variant], slot: str) -> dict[tuple[str, str], tuple[Delta, ...]]:
    """(device, target) -> the delta to that file from what the device reports to run in `slot`, where one was made."""
    targets = sorted({variant.file.sha256 for variant in wanted.values()})
    found = conn.execute(_OFFERED, {"names": sorted(wanted), "slot": slot, "targets": targets})
    rows = [row for row in found if row.object is not None]
    return {
        (row.device, row.target): (Delta(base=row.base, file=msgspec.convert(row.object, ObjectRef)),) for row in rows
    }


def undecided(conn: Connection, rollout: Row[Any]) -> tuple[Pair, ...]:
    """The deltas that the rollout's devices could use, and of which it is not known yet whether they are worth it."""
    target = _target(conn, rollout)
    if target is None or target.bytes <= MIN_BYTES:
        return ()
    waiting = (members.c.rollout == rollout.id) & members.c.assigned_ns.is_(None) & members.c.outcome.is_(None)
    bases = (
        select(slots.c.sha256)
        .join(members, (members.c.device == slots.c.device) & (slots.c.slot == rollout.slot))
        .join(objects, objects.c.sha256 == slots.c.sha256)
        .where(waiting, slots.c.sha256 != target.sha256)
        .group_by(slots.c.sha256)
        .order_by(func.count().desc(), slots.c.sha256)
        .limit(MAX_BASES)
    )
    known = set(conn.execute(select(deltas.c.base).where(deltas.c.target == target.sha256)).scalars())
    return tuple((base, target.sha256) for base in conn.execute(bases).scalars() if base not in known)


class Deltas:
    """Makes the deltas that running rollouts wait for."""

    def __init__(self, store: Store, objects: Objects, maker: DeltaMaker, clock: Clock) -> None:
        self._store = store
        self._objects = objects
        self._maker = maker
        self._clock = clock

    async def sync(self) -> None:
        """Decide on every delta that is undecided."""
        for pair in await self._store.read(_all_undecided):
            made = await self._make(*pair)
            note = functools.partial(_note, pair=pair, made=made, now_ns=self._clock.now_ns())
            await self._store.write(note)

    async def _make(self, base: str, target: str) -> ObjectRef | None:
        try:
            whole = await self._objects.get(target)
            delta = await self._maker.make(await self._objects.get(base), whole)
            if len(delta) > WORTH * len(whole):
                return None
            await self._objects.put(delta)
        except (ObjectMissingError, ObjectStoreError, DeltaError) as error:
            log.warning("no delta from %s to %s: %s", base[:12], target[:12], error)
            return None
        return object_ref(delta).brief()


def _all_undecided(conn: Connection) -> tuple[Pair, ...]:
    running = select(rollouts).where(rollouts.c.state == RolloutState.RUNNING).order_by(rollouts.c.created_ns)
    return tuple(dict.fromkeys(pair for row in conn.execute(running).all() for pair in undecided(conn, row)))


def _target(conn: Connection, rollout: Row[Any]) -> ObjectRef | None:
    row = conn.execute(_CHOSEN, {"model": rollout.model, "version": rollout.version}).one()
    variant = releases.read(row.release).variant(rollout.plan["variant"] or row.chosen)
    return variant.file if variant is not None else None


def _note(conn: Connection, pair: Pair, made: ObjectRef | None, now_ns: int) -> None:
    if made is not None:
        entry = upsert(objects).values(sha256=made.sha256, bytes=made.bytes, created_ns=now_ns)
        conn.execute(entry.on_conflict_do_nothing())
    content = null() if made is None else msgspec.to_builtins(made)
    values = {"base": pair[0], "target": pair[1], "object": content, "created_ns": now_ns}
    conn.execute(upsert(deltas).values(values).on_conflict_do_nothing())
