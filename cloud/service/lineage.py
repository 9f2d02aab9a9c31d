"""Loads what the lineage graph is made of. It is not stored: every edge follows from rows that are there anyway."""

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select

from cloud.core import lineage as core
from cloud.core.lineage import CandidateFacts, Graph, Kind, UseFacts, VersionFacts
from cloud.errors import UnknownError
from cloud.service.imports import IMPORTED
from cloud.service.promotion import stage_of
from cloud.tables import federated_runs, models, rollouts, signing_requests, versions
from wire.codec import MAX_RELEASE_BYTES, decode
from wire.release import ModelCard, Release


def around(conn: Connection, node: str) -> Graph:
    """What went into a node and what it went into. Raises UnknownError."""
    found = core.around(core.build(_versions(conn), _uses(conn)), node)
    if not found.nodes:
        raise UnknownError(f"there is no {node!r} in the lineage: ids are kind:name, e.g. version:watch/1")
    return found


def lineage_of(conn: Connection, model: str, version: int) -> str:
    """The id that follows a model all the way round. Raises UnknownError."""
    try:
        return core.lineage_id(_versions(conn, model), model, version)
    except KeyError as error:
        raise UnknownError(f"there is no version {version} of model {model!r}") from error


def _versions(conn: Connection, model: str | None = None) -> tuple[VersionFacts, ...]:
    query = (
        select(versions, models.c.production, signing_requests.c.gate_report)
        .join(models, models.c.name == versions.c.model)
        .join(
            signing_requests,
            (signing_requests.c.model == versions.c.model) & (signing_requests.c.version == versions.c.version),
            isouter=True,
        )
        .order_by(versions.c.model, versions.c.version)
    )
    query = query if model is None else query.where(versions.c.model == model)
    return tuple(_facts(row) for row in conn.execute(query))


def _facts(row: Row[Any]) -> VersionFacts:
    release = decode(row.release, Release, limit=MAX_RELEASE_BYTES)
    card = msgspec.json.decode(row.card, type=ModelCard)
    return VersionFacts(
        model=row.model,
        version=row.version,
        stage=stage_of(row),
        workload=card.lineage.workload,
        data_sha256=card.lineage.data_sha256,
        seed=card.lineage.seed,
        software=card.software,
        start=_start(row, release),
        job=row.job,
        parent_version=row.parent_version,
        federated_run=row.federated_run,
        candidates=_candidates(row.gate_report or {}, card),
        variants={variant.name: variant.file.sha256 for variant in release.variants},
    )


def _start(row: Row[Any], release: Release) -> str:
    if row.federated_run:
        return release.companions.parameters.sha256
    return str(row.job) if row.job.startswith(IMPORTED) else ""


def _candidates(report: dict[str, Any], card: ModelCard) -> tuple[CandidateFacts, ...]:
    """From the card; the report also knows the digests of those that were refused."""
    digests = {one["name"]: (one.get("model") or {}).get("sha256", "") for one in report.get("candidates", ())}
    return tuple(CandidateFacts(one.name, digests.get(one.name, ""), one.kept, one.reasons) for one in card.candidates)


def _uses(conn: Connection) -> list[UseFacts]:
    rolled = conn.execute(select(rollouts).order_by(rollouts.c.created_ns, rollouts.c.id))
    uses = [
        UseFacts(Kind.ROLLOUT, row.id, row.model, row.version, row.state, row.plan.get("variant") or "")
        for row in rolled
    ]
    learned = conn.execute(select(federated_runs).order_by(federated_runs.c.created_ns, federated_runs.c.id))
    return uses + [UseFacts(Kind.FEDERATED, row.id, row.model, row.version, row.state) for row in learned]
