"""Promoting and retiring versions: by the model's rule on what devices have shown, each step in the audit trail."""

from dataclasses import asdict
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, case, func, select, update

from cloud.core.promotion import Evidence, Rule, Stage, stage, unmet
from cloud.core.registry import VersionState
from cloud.core.rollout import ACTIVE, RolloutState
from cloud.errors import ConflictError, InvalidError, UnknownError
from cloud.service import audit
from cloud.service.effects import NOTHING, Effects
from cloud.tables import federated_runs, members, models, rollouts, stats, versions
from wire.messages import Outcome

_JUDGED = tuple(sorted(set(Outcome) - {Outcome.REJECTED, Outcome.CANCELLED}))
"""Ends of an execution that say something of the version."""

_NEWER = (
    (versions.c.version > models.c.furthest)
    & (versions.c.state == VersionState.RELEASED)
    & (versions.c.retired == "")
    & models.c.promotion.is_not(None)
)
_CANDIDATES = (
    select(models.c.name, models.c.promotion, versions.c.version)
    .join(versions, versions.c.model == models.c.name)
    .where(_NEWER)
    .order_by(models.c.name, versions.c.version.desc())
)
RULED = _CANDIDATES.order_by(None).exists()
"""Is there a version that a rule may promote?"""


def stage_of(row: Row[Any]) -> Stage:
    """Where a version stands; the row has the columns of `versions`, and `production` of its model."""
    return stage(VersionState(row.state), in_production=row.production == row.version, retired=bool(row.retired))


def find(conn: Connection, model: str, version: int) -> Row[Any]:
    """The version with the `production` and `promotion` of its model. Raises UnknownError."""
    query = select(versions, models.c.production, models.c.promotion).join(models, models.c.name == versions.c.model)
    row = conn.execute(query.where(versions.c.model == model, versions.c.version == version)).one_or_none()
    if row is None:
        raise UnknownError(f"there is no version {version} of model {model!r}")
    return row


def rule_of(conn: Connection, model: str) -> Rule:
    """The model's rule; the default one as long as nobody has set another. Raises UnknownError."""
    row = conn.execute(select(models.c.promotion).where(models.c.name == model)).one_or_none()
    if row is None:
        raise UnknownError(f"there is no model {model!r}")
    return msgspec.convert(row.promotion or {}, Rule)


def set_rule(conn: Connection, model: str, rule: Rule, actor: str, now_ns: int) -> Effects:
    """By which rule versions of the model get into production from now on. Raises UnknownError."""
    before = asdict(rule_of(conn, model))
    conn.execute(update(models).where(models.c.name == model).values(promotion=asdict(rule)))
    audit.record(conn, now_ns, actor, ("model.promotion_rule", model), old=before, new=asdict(rule))
    return NOTHING


def evidence(conn: Connection, model: str, version: int) -> Evidence:
    """What devices have shown of a version."""
    here = (rollouts.c.model == model) & (rollouts.c.version == version)
    states = conn.execute(select(rollouts.c.state).where(here)).scalars().all()
    mine = select(members.c.device, members.c.outcome).join(rollouts, rollouts.c.id == members.c.rollout).where(here)
    ended = mine.where(members.c.outcome.in_(_JUDGED)).subquery()
    committed = ended.c.outcome == Outcome.SUCCEEDED
    totals = conn.execute(
        select(
            func.count().label("ended"),
            func.count().filter(committed).label("committed"),
            func.count(ended.c.device.distinct()).filter(committed).label("devices"),
        ).select_from(ended)
    ).one()
    judged = select(func.coalesce(func.sum(stats.c.feedback), 0), func.coalesce(func.sum(stats.c.correct), 0))
    feedback, correct = conn.execute(judged.where(stats.c.model == model, stats.c.version == version)).one()
    return Evidence(
        devices=totals.devices,
        ended=totals.ended,
        committed=totals.committed,
        rollouts_succeeded=sum(state == RolloutState.SUCCEEDED for state in states),
        rollouts_active=sum(state in ACTIVE for state in states),
        feedback=int(feedback),
        correct=int(correct),
    )


def promote(conn: Connection, of: tuple[str, int], actor: str, now_ns: int, override: str = "") -> Effects:
    """Put version `of` = (model, number) into production. `override`: why, although the rule is not met.

    Raises UnknownError; ConflictError: not released, retired, or the rule is not met (it says what is missing).
    """
    model, version = of
    row = find(conn, model, version)
    here = stage_of(row)
    if here is Stage.PRODUCTION:
        return NOTHING
    if here is not Stage.RELEASED:
        raise ConflictError(f"{model} version {version} is {here}: only a released version gets into production")
    seen = evidence(conn, model, version)
    missing = unmet(msgspec.convert(row.promotion or {}, Rule), seen)
    if missing and not override:
        raise ConflictError(f"{model} version {version} does not meet its rule: {'; '.join(missing)}")
    furthest = case((models.c.furthest > version, models.c.furthest), else_=version)
    conn.execute(update(models).where(models.c.name == model).values(production=version, furthest=furthest))
    detail = {"replaced": row.production, "evidence": asdict(seen), "unmet": list(missing), "override": override}
    audit.record(conn, now_ns, actor, ("version.promote", f"{model}/{version}"), **detail)
    return NOTHING


def due(conn: Connection) -> list[tuple[str, int]]:
    """What the rules that are automatic promote now: of each model the newest released version above all that were ever
    in production, so that what a person has stepped back from stays behind."""
    found: dict[str, int] = {}
    for row in conn.execute(_CANDIDATES).all():
        rule = msgspec.convert(row.promotion, Rule)
        if row.name not in found and rule.automatic and not unmet(rule, evidence(conn, row.name, row.version)):
            found[row.name] = row.version
    return list(found.items())


def promote_due(conn: Connection, now_ns: int) -> Effects:
    """Promote what is due."""
    for of in due(conn):
        promote(conn, of, audit.HUB, now_ns)
    return NOTHING


def retire(conn: Connection, of: tuple[str, int], reason: str, actor: str, now_ns: int) -> Effects:
    """Nobody rolls the version out or learns from it any more; devices that run it keep it.

    Raises UnknownError; ConflictError: it is in production, or something still uses it.
    """
    model, version = of
    row = find(conn, model, version)
    if not reason:
        raise InvalidError("say why the version is retired")
    if row.retired:
        return NOTHING
    if stage_of(row) is Stage.PRODUCTION:
        raise ConflictError(f"{model} version {version} is in production: promote another version first")
    user = _user(conn, model, version)
    if user:
        raise ConflictError(f"{model} version {version} is used by {user}: wait for it or abort it")
    here = (versions.c.model == model) & (versions.c.version == version)
    conn.execute(update(versions).where(here).values(retired=reason))
    audit.record(conn, now_ns, actor, ("version.retire", f"{model}/{version}"), reason=reason)
    return NOTHING


def _user(conn: Connection, model: str, version: int) -> str:
    rolling = select(rollouts.c.id).where(
        rollouts.c.model == model, rollouts.c.version == version, rollouts.c.state.in_(sorted(ACTIVE))
    )
    found = conn.scalar(rolling.limit(1))
    if found is not None:
        return f"rollout {found}"
    learning = select(federated_runs.c.id).where(
        federated_runs.c.model == model,
        federated_runs.c.version == version,
        federated_runs.c.state.in_(("running", "deriving")),
    )
    found = conn.scalar(learning.limit(1))
    return "" if found is None else f"federated run {found}"
