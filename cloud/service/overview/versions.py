"""Versions of one model: state, candidates and lineage, from the signed documents themselves."""

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select

from cloud.service.overview.shapes import CandidateView, VersionView
from cloud.tables import versions
from wire.release import Candidate, ModelCard, Release

NEWEST = 6


def read_versions(conn: Connection, model: str) -> tuple[VersionView, ...]:
    """The newest versions of `model`, oldest first."""
    query = select(versions).where(versions.c.model == model).order_by(versions.c.version.desc()).limit(NEWEST)
    return tuple(reversed([_version(row) for row in conn.execute(query)]))


def _version(row: Row[Any]) -> VersionView:
    card = msgspec.json.decode(row.card, type=ModelCard)
    return VersionView(
        model=row.model,
        version=row.version,
        state=row.state,
        reason=row.reason,
        origin="federated" if row.federated_run else "trained",
        job=row.job,
        parent_version=row.parent_version,
        federated_run=row.federated_run,
        data_sha256=card.lineage.data_sha256,
        fp32_bytes=msgspec.json.decode(row.release, type=Release).parent.bytes,
        candidates=tuple(_candidate(candidate, row.chosen) for candidate in card.candidates),
    )


def _candidate(candidate: Candidate, chosen: str) -> CandidateView:
    return CandidateView(
        name=candidate.name,
        bytes=candidate.bytes,
        kept=candidate.kept,
        shipped=candidate.name == chosen,
        reasons=candidate.reasons,
        accuracy=candidate.metrics.get("accuracy"),
        p50_ms=candidate.metrics.get("p50_ms"),
    )
