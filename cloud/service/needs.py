"""Which objects devices may ask for now, as it follows from the database: for the broker's memory, and for one device.

An object is *used* when a device is told to fetch it; what was used last is wanted most.
"""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, func, select

from cloud.core.rollout import ACTIVE
from cloud.tables import deltas, desired, devices, federated_runs, members, objects, rollouts, slots, versions
from wire.codec import MAX_RELEASE_BYTES, decode
from wire.messages import Phase
from wire.release import Release

INSTALLING = (
    Phase.WAITING_TO_FETCH, Phase.FETCHING_RELEASE, Phase.FETCHING, Phase.WAITING_TO_INSTALL, Phase.VERIFYING,
    Phase.TRIAL,
)  # fmt: skip

_INSTALLING = select(slots.c.device).where(slots.c.phase.in_(INSTALLING))
_LATE = (
    select(desired.c.wanted, func.max(desired.c.issued_ns).label("issued_ns"))
    .join(devices, devices.c.name == desired.c.device)
    .where(devices.c.online)
    .where((devices.c.reported_sequence < desired.c.sequence) | devices.c.name.in_(_INSTALLING))
    .group_by(desired.c.wanted)
    .order_by(desired.c.wanted)
)
"""What is named to devices that are there and not done, whatever became of the rollout: new or reset hardware too."""


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
    known = {row.sha256: row.bytes for row in conn.execute(select(objects.c.sha256, objects.c.bytes))}
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
    wanted = conn.execute(select(desired.c.wanted).where(desired.c.device == device)).scalar_one_or_none()
    needs = _named(wanted) if wanted is not None else []
    running = select(federated_runs).where(federated_runs.c.state == "running")
    needs += [_Need(row.model, row.version, True, "") for row in conn.execute(running) if device in row.devices]
    named = {sha256 for need in needs for sha256 in _files(conn, need)}
    known = select(objects.c.sha256, objects.c.bytes).where(objects.c.sha256.in_(sorted(named)))
    return {row.sha256: row.bytes for row in conn.execute(known)}


def _needs(conn: Connection) -> dict[_Need, int]:
    """Need -> when a device was last told."""
    assigned_ns = func.coalesce(func.max(members.c.assigned_ns), rollouts.c.created_ns)
    columns = select(rollouts.c.model, rollouts.c.version, rollouts.c.plan, assigned_ns.label("used_ns"))
    under_way = members.c.assigned_ns.is_not(None) & members.c.outcome.is_(None)
    running = columns.join(members, members.c.rollout == rollouts.c.id, isouter=True).where(
        rollouts.c.state.in_(sorted(ACTIVE)) | under_way
    )
    found = [
        (_Need(row.model, row.version, False, row.plan["variant"] or ""), row.used_ns)
        for row in conn.execute(running.group_by(rollouts.c.id))
    ]
    found += [(need, row.issued_ns) for row in conn.execute(_LATE) for need in _named(row.wanted)]
    learning = select(federated_runs).where(federated_runs.c.state == "running")
    found += [(_Need(row.model, row.version, True, ""), row.created_ns) for row in conn.execute(learning)]
    needs: dict[_Need, int] = {}
    for need, used_ns in found:
        needs[need] = max(used_ns, needs.get(need, 0))
    return needs


def _named(wanted: str) -> list[_Need]:
    """The versions in what an assignment names."""
    named = msgspec.json.decode(wanted, type=list[tuple[str, int, str]])
    return [_Need(model, version, False, variant) for model, version, variant in named]


def _files(conn: Connection, need: _Need) -> list[str]:
    here = (versions.c.model == need.model) & (versions.c.version == need.version)
    row = conn.execute(select(versions).where(here)).one()
    release = decode(row.release, Release, limit=MAX_RELEASE_BYTES)
    companions = release.companions
    if need.learning:
        refs = [companions.parameters, companions.train_step, companions.eval]
        return [row.release_ref["sha256"], *(ref.sha256 for ref in refs if ref is not None)]
    variant = release.variant(need.variant or row.chosen)
    files = [row.release_ref["sha256"], companions.golden.sha256]
    return files if variant is None else [*files, variant.file.sha256, *_shortcuts(conn, variant.file.sha256)]


def _shortcuts(conn: Connection, target: str) -> list[str]:
    made = select(deltas.c.object).where(deltas.c.target == target).order_by(deltas.c.base)
    return [ref["sha256"] for ref in conn.execute(made).scalars() if ref is not None]
