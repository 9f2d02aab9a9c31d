"""Which objects devices may ask for now, as it follows from the database: for the broker's memory, and for one device.

An object is *used* when a device is told to fetch it; what was used last is wanted most.
"""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, bindparam, func, select

from cloud.many import among
from cloud.service import releases
from cloud.service.rollouts.plans import UNDER_WAY
from cloud.tables import BEHIND, deltas, desired, devices, federated_runs, objects, retained, rollouts, slots, versions
from wire.messages import Phase

INSTALLING = (
    Phase.WAITING_TO_FETCH, Phase.FETCHING_RELEASE, Phase.FETCHING, Phase.WAITING_TO_INSTALL, Phase.VERIFYING,
    Phase.TRIAL,
)  # fmt: skip

_ROLLING = (
    select(rollouts.c.model, rollouts.c.version, rollouts.c.plan, rollouts.c.asked, rollouts.c.created_ns)
    .where(UNDER_WAY)
    .order_by(rollouts.c.id)
)
_LEARNING = select(federated_runs).where(federated_runs.c.state == "running").order_by(federated_runs.c.id)
_INSTALLING = (
    select(slots.c.device)
    .join(devices, devices.c.name == slots.c.device)
    .where(slots.c.phase.in_(INSTALLING), devices.c.online)
)
_BEHIND = select(devices.c.name).where(BEHIND)
_LATE = _BEHIND.union(_INSTALLING)
"""Devices that are there and not done, whatever became of the rollout: new or reset hardware too."""
_WANTED_OF = (
    select(desired.c.wanted, func.max(desired.c.issued_ns).label("issued_ns"))
    .where(among(desired.c.device, "names"))
    .group_by(desired.c.wanted)
    .order_by(desired.c.wanted)
)
_WANTED = select(desired.c.wanted).where(desired.c.device == bindparam("device"))
_VERSION = select(versions.c.release, versions.c.release_ref, versions.c.chosen).where(
    versions.c.model == bindparam("model"), versions.c.version == bindparam("version")
)
_SHORTCUTS = select(deltas.c.object).where(deltas.c.target == bindparam("target")).order_by(deltas.c.base)
_KNOWN = select(objects.c.sha256, objects.c.bytes).where(among(objects.c.sha256, "digests")).order_by(objects.c.sha256)

NEEDED_OR_HELD = (
    select(rollouts.c.id).where(UNDER_WAY).exists()
    | _LEARNING.order_by(None).exists()
    | _BEHIND.exists()
    | _INSTALLING.exists()
    | select(retained.c.sha256).exists()
)
"""Is anything needed, or does the broker hold anything that may be needed no more?"""


class Needed(NamedTuple):
    """An object that devices may ask for, and when one was last told to fetch it."""

    sha256: str
    bytes: int
    used_ns: int


class _Need(NamedTuple):
    """A version that devices fetch from: to run `variant` ("" = the chosen one), or to learn."""

    model: str
    version: int
    learning: bool
    variant: str


def needed_objects(conn: Connection) -> tuple[Needed, ...]:
    """What active rollouts, executions under way, devices that are late and federated runs need; used last first."""
    used: dict[str, int] = {}
    for need, used_ns in sorted(_needs(conn).items()):
        for sha256 in _files(conn, need):
            used[sha256] = max(used_ns, used.get(sha256, 0))
    known = _lengths(conn, used)
    needed = [Needed(sha256, known[sha256], used_ns) for sha256, used_ns in used.items() if sha256 in known]
    return tuple(sorted(needed, key=lambda one: (-one.used_ns, one.bytes, one.sha256)))


def within(needed: Iterable[Needed], most_bytes: int) -> tuple[Needed, ...]:
    """Those that fit together, the least recently used giving way."""
    chosen, total = [], 0
    for one in needed:
        if total + one.bytes <= most_bytes:
            total += one.bytes
            chosen.append(one)
    return tuple(chosen)


def objects_of(conn: Connection, device: str) -> dict[str, int]:
    """What `device` may ask for: the objects that its assignment or a federated run that it takes part in names.

    Digest -> length.
    """
    wanted = conn.execute(_WANTED, {"device": device}).scalar_one_or_none()
    needs = _named(wanted) if wanted is not None else []
    needs += [_Need(row.model, row.version, True, "") for row in conn.execute(_LEARNING) if device in row.devices]
    return _lengths(conn, {sha256 for need in needs for sha256 in _files(conn, need)})


def _needs(conn: Connection) -> dict[_Need, int]:
    """Need -> when a device was last told."""
    found = [
        (
            _Need(row.model, row.version, False, row.plan["variant"] or ""),
            row.asked[-1][0] if row.asked else row.created_ns,
        )
        for row in conn.execute(_ROLLING)
    ]
    late = conn.execute(_LATE).scalars().all()
    rows = conn.execute(_WANTED_OF, {"names": late}) if late else ()
    found += [(need, row.issued_ns) for row in rows for need in _named(row.wanted)]
    found += [(_Need(row.model, row.version, True, ""), row.created_ns) for row in conn.execute(_LEARNING)]
    needs: dict[_Need, int] = {}
    for need, used_ns in found:
        needs[need] = max(used_ns, needs.get(need, 0))
    return needs


def _lengths(conn: Connection, digests: Iterable[str]) -> dict[str, int]:
    """Digest -> length, of the objects that the hub has."""
    return {row.sha256: row.bytes for row in conn.execute(_KNOWN, {"digests": sorted(digests)})}


def _named(wanted: str) -> list[_Need]:
    """The versions in what an assignment names."""
    named = msgspec.json.decode(wanted, type=list[tuple[str, int, str]])
    return [_Need(model, version, False, variant) for model, version, variant in named]


def _files(conn: Connection, need: _Need) -> list[str]:
    row = conn.execute(_VERSION, {"model": need.model, "version": need.version}).one()
    release = releases.read(row.release)
    companions = release.companions
    if need.learning:
        refs = [companions.parameters, companions.train_step, companions.eval]
        return [row.release_ref["sha256"], *(ref.sha256 for ref in refs if ref is not None)]
    variant = release.variant(need.variant or row.chosen)
    files = [row.release_ref["sha256"], companions.golden.sha256]
    return files if variant is None else [*files, variant.file.sha256, *_shortcuts(conn, variant.file.sha256)]


def _shortcuts(conn: Connection, target: str) -> list[str]:
    return [ref["sha256"] for ref in conn.execute(_SHORTCUTS, {"target": target}).scalars() if ref is not None]
