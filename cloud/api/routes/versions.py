"""Versions beyond their making here: importing them, where they came from, and how far they are promoted."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from sqlalchemy import Connection, Row

from cloud.api import views
from cloud.api.context import Hub, Operator, Viewer
from cloud.api.etags import IfMatch, Seen, etag
from cloud.api.schemas.base import Name, VersionNumber
from cloud.api.schemas.registry import VersionView
from cloud.api.schemas.versions import (
    EdgeView,
    ImportRequest,
    LineageView,
    NodeView,
    PromotionRequest,
    PromotionRule,
    PromotionView,
    RetirementRequest,
)
from cloud.core.lineage import Graph, version_node
from cloud.core.promotion import Rule, unmet
from cloud.service import lineage, promotion
from cloud.service.imports import NewVariant, NewVersion

router = APIRouter(tags=["registry"])


async def _seen_rule(model: str, if_match: IfMatch = None) -> Seen:
    return Seen(if_match, lambda conn: _rule_tag(model, promotion.rule_of(conn, model)))


async def _seen_standing(model: str, version: VersionNumber, if_match: IfMatch = None) -> Seen:
    return Seen(if_match, lambda conn: _standing_tag(promotion.find(conn, model, version)))


async def _of(model: str, version: VersionNumber) -> tuple[str, int]:
    return model, version


Released = Annotated[tuple[str, int], Depends(_of)]
"""The version that the path names."""
SeenRule = Annotated[Seen, Depends(_seen_rule)]
SeenStanding = Annotated[Seen, Depends(_seen_standing)]


@router.post("/models/{model}/versions", status_code=201)
async def import_version(model: Name, body: ImportRequest, hub: Hub, actor: Operator) -> VersionView:
    """Enter a version that was made elsewhere. It waits for the publisher, and there for a person."""
    given = body.model_dump(exclude={"variants"})
    variants = tuple(NewVariant(**one.model_dump()) for one in body.variants)
    number = await hub.imports.enter(NewVersion(model=model, variants=variants, **given), actor.name, hub.change)
    return await hub.read(lambda conn: views.version_view(conn, model, number))


@router.get("/models/{model}/promotion-rule")
async def promotion_rule(model: str, hub: Hub, actor: Viewer, response: Response) -> PromotionRule:
    """By which rule versions of the model get into production."""
    rule = await hub.read(lambda conn: promotion.rule_of(conn, model))
    response.headers["ETag"] = _rule_tag(model, rule)
    return PromotionRule.model_validate(rule, from_attributes=True)


@router.put("/models/{model}/promotion-rule")
async def set_promotion_rule(
    model: str, body: PromotionRule, hub: Hub, actor: Operator, seen: SeenRule, response: Response
) -> PromotionRule:
    """Set the rule."""
    rule = Rule(**body.model_dump())
    await hub.change(lambda conn, now_ns: promotion.set_rule(conn, model, rule, actor.name, now_ns), seen=seen)
    return await promotion_rule(model, hub, actor, response)


@router.get("/models/{model}/versions/{version}/promotion")
async def standing(model: str, version: VersionNumber, hub: Hub, actor: Viewer, response: Response) -> PromotionView:
    """The version's stage, its evidence, and what its rule still asks for."""
    view, tag = await hub.read(
        lambda conn: (_standing(conn, model, version), _standing_tag(promotion.find(conn, model, version)))
    )
    response.headers["ETag"] = tag
    return view


@router.post("/models/{model}/versions/{version}/promote")
async def promote(
    of: Released, body: PromotionRequest, hub: Hub, actor: Operator, seen: SeenStanding, response: Response
) -> PromotionView:
    """Put the version into production; the one that was there is released again. 409 says what the rule lacks."""
    await hub.change(lambda conn, now_ns: promotion.promote(conn, of, actor.name, now_ns, body.override), seen=seen)
    return await standing(*of, hub, actor, response)


@router.post("/models/{model}/versions/{version}/retire")
async def retire(
    of: Released, body: RetirementRequest, hub: Hub, actor: Operator, seen: SeenStanding, response: Response
) -> PromotionView:
    """Nobody rolls the version out or learns from it any more; devices that run it keep it."""
    await hub.change(lambda conn, now_ns: promotion.retire(conn, of, body.reason, actor.name, now_ns), seen=seen)
    return await standing(*of, hub, actor, response)


@router.get("/models/{model}/versions/{version}/lineage")
async def version_lineage(model: str, version: VersionNumber, hub: Hub, actor: Viewer) -> LineageView:
    """Everything that the version came from, and everything that came of it."""

    def look(conn: Connection) -> LineageView:
        identity = lineage.lineage_of(conn, model, version)
        return _graph(lineage.around(conn, version_node(model, version)), identity)

    return await hub.read(look)


@router.get("/lineage")
async def lineage_around(
    hub: Hub, actor: Viewer, node: Annotated[str, Query(min_length=3, max_length=200, examples=["version:watch/1"])]
) -> LineageView:
    """The same for anything in the lineage: which versions and rollouts came of this data, this run, this variant?"""
    return await hub.read(lambda conn: _graph(lineage.around(conn, node), None))


def _graph(graph: Graph, identity: str | None) -> LineageView:
    return LineageView(
        lineage=identity,
        nodes=[NodeView(id=one.id, kind=one.kind.value, facts=dict(one.facts)) for one in graph.nodes],
        edges=[EdgeView(source=one.source, target=one.target, role=one.role) for one in graph.edges],
    )


def _rule_tag(model: str, rule: Rule) -> str:
    return etag(model, asdict(rule))


def _standing_tag(row: Row[Any]) -> str:
    return etag(row.model, row.version, promotion.stage_of(row), row.retired)


def _standing(conn: Connection, model: str, version: int) -> PromotionView:
    row, seen = promotion.find(conn, model, version), promotion.evidence(conn, model, version)
    rule = promotion.rule_of(conn, model)
    return PromotionView(
        stage=promotion.stage_of(row).value,
        rule=PromotionRule.model_validate(rule, from_attributes=True),
        unmet=list(unmet(rule, seen)),
        evidence={name: getattr(seen, name) for name in seen.__dataclass_fields__},
        retired=row.retired,
    )
