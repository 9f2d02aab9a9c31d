"""A rollout as it is ordered, its row as the plan that its machine wants, and the release that it brings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, select

from cloud.core.registry import VersionState, why_not_rolled_out
from cloud.core.rollout import ACTIVE, Plan
from cloud.errors import ConflictError, UnknownError
from cloud.service import releases
from cloud.tables import BUSY, rollout_waves, rollouts, versions
from wire.release import Release

UNDER_WAY = rollouts.c.state.in_(sorted(ACTIVE)) | rollouts.c.id.in_(select(rollout_waves.c.rollout).where(BUSY))
"""Can time alone move this rollout? It is active, or devices are still busy with it."""

_ONE = select(rollouts).where(rollouts.c.id == bindparam("rollout"))


@dataclass(frozen=True, slots=True)
class NewRollout:
    """What the operator orders."""

    id: str
    model: str
    version: int
    slot: str
    selector: Mapping[str, str]
    variant: str | None
    plan: Plan


def plan_of(row: Row[Any]) -> Plan:
    """The plan of a rollout's row."""
    known = {name: row.plan[name] for name in Plan.__dataclass_fields__ if name in row.plan}
    return msgspec.convert(known, Plan)


def rollout_row(conn: Connection, rollout: str) -> Row[Any]:
    """Raises UnknownError."""
    row = conn.execute(_ONE, {"rollout": rollout}).one_or_none()
    if row is None:
        raise UnknownError(f"there is no rollout {rollout!r}")
    return row


def released(conn: Connection, model: str, version: int) -> Release:
    """The release of a version that may be rolled out. Raises UnknownError, ConflictError."""
    row = conn.execute(select(versions).where(versions.c.model == model, versions.c.version == version)).one_or_none()
    if row is None:
        raise UnknownError(f"there is no version {version} of model {model!r}")
    problem = why_not_rolled_out(VersionState(row.state), row.reason, row.retired)
    if problem:
        raise ConflictError(f"{model} version {version} cannot be used: {problem}")
    return releases.read(row.release)
