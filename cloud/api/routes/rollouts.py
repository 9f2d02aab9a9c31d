"""Rollouts: start, watch, pause, approve, resume, abort, revert."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query

from cloud.api import rollout_views as views
from cloud.api.context import Hub, Operator, Viewer
from cloud.api.rollout_schemas import GateRequest, MembersView, RolloutRequest, RolloutView
from cloud.core.rollout import Command, Plan
from cloud.service import rollouts
from cloud.service.rollouts import NewRollout

MAX_PAGE = 1_000

router = APIRouter(prefix="/rollouts", tags=["rollouts"])


@router.post("", status_code=201)
async def start(body: RolloutRequest, hub: Hub, actor: Operator) -> RolloutView:
    """Start a rollout. 409 names the rollout that still holds a device; 422 the position of a mistake in a gate."""
    new = NewRollout(
        id=hub.ids.new(),
        model=body.model,
        version=body.version,
        slot=body.slot,
        selector=body.selector,
        variant=body.variant,
        plan=_plan(body),
    )
    await hub.change(lambda conn, now_ns: rollouts.create(conn, new, actor.name, now_ns))
    return await hub.read(lambda conn: views.rollout_view(conn, new.id))


@router.get("")
async def all_rollouts(hub: Hub, actor: Viewer) -> list[RolloutView]:
    """All rollouts."""
    return await hub.read(views.rollout_views)


@router.get("/{rollout}")
async def one(rollout: str, hub: Hub, actor: Viewer) -> RolloutView:
    """One rollout, wave by wave, with the evidence of its gates."""
    return await hub.read(lambda conn: views.rollout_view(conn, rollout))


@router.get("/{rollout}/members")
async def members(
    rollout: str,
    hub: Hub,
    actor: Viewer,
    after: Annotated[str, Query(max_length=63)] = "",
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
) -> MembersView:
    """The devices of a rollout by name, a page at a time."""
    return await hub.read(lambda conn: views.member_views(conn, rollout, after, limit))


@router.post("/{rollout}/{command}")
async def control(rollout: str, command: Command, hub: Hub, actor: Operator) -> RolloutView:
    """Pause; approve the next wave; resume (acknowledges what has been seen so far); abort (keeps what runs); or
    revert (aborts, and brings back what the devices reached ran before)."""
    await hub.change(lambda conn, now_ns: rollouts.control(conn, rollout, command, actor.name, now_ns))
    return await hub.read(lambda conn: views.rollout_view(conn, rollout))


def _plan(body: RolloutRequest) -> Plan:
    gates = [gate if isinstance(gate, GateRequest) else GateRequest(expression=gate) for gate in body.gates]
    asked = body.model_dump(exclude_none=True, include=set(Plan.__dataclass_fields__) - {"gates"})
    return msgspec.convert({**asked, "gates": [gate.model_dump() for gate in gates]}, Plan)
