"""The fleet as a whole: who is there, the halt, and the whole loop at one moment."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Response
from sqlalchemy import Connection

from cloud.api.context import Hub, Operator, Viewer
from cloud.api.etags import IfMatch, Seen, etag
from cloud.api.schemas.base import ReasonRequest
from cloud.api.schemas.fleet import AgentView, FleetView
from cloud.core.presence import Standing
from cloud.service import holds, restraints, twin
from cloud.service.overview import overview

router = APIRouter(tags=["fleet"])


async def _seen(if_match: IfMatch = None) -> Seen:
    return Seen(if_match, _tag)


SeenFleet = Annotated[Seen, Depends(_seen)]


@router.get("/fleet")
async def fleet(hub: Hub, actor: Viewer, response: Response) -> FleetView:
    """Is it halted, who is there, and which agents does it run?"""
    now_ns = hub.clock.now_ns()
    view, tag = await hub.read(lambda conn: (_fleet(conn, now_ns), _tag(conn)))
    response.headers["ETag"] = tag
    return view


@router.post("/fleet/halt")
async def halt(body: ReasonRequest, hub: Hub, actor: Operator, seen: SeenFleet, response: Response) -> FleetView:
    """Assign nobody anything, in whatever rollout, until the fleet is resumed."""
    await hub.change(lambda conn, now_ns: holds.halt(conn, body.reason, actor.name, now_ns), seen=seen)
    return await fleet(hub, actor, response)


@router.post("/fleet/resume")
async def resume(hub: Hub, actor: Operator, seen: SeenFleet, response: Response) -> FleetView:
    """Rollouts go on where they stopped."""
    await hub.change(lambda conn, now_ns: holds.resume(conn, actor.name, now_ns), seen=seen)
    return await fleet(hub, actor, response)


@router.get("/overview")
async def whole(hub: Hub, actor: Viewer) -> dict[str, Any]:
    """The whole loop at one moment (what the page shows)."""
    now_ns = hub.clock.now_ns()
    document: dict[str, Any] = msgspec.to_builtins(await hub.read(lambda conn: overview(conn, now_ns)))
    return document


def _tag(conn: Connection) -> str:
    return etag("fleet", restraints.halted(conn))


def _fleet(conn: Connection, now_ns: int) -> FleetView:
    there = twin.presence_counts(conn, now_ns)
    return FleetView(
        halted=restraints.halted(conn) or None,
        online=there[Standing.ONLINE],
        away=there[Standing.AWAY],
        offline=there[Standing.OFFLINE],
        agents=[AgentView(agent=one.agent, skew=one.skew.value, devices=one.devices) for one in twin.agents(conn)],
    )
