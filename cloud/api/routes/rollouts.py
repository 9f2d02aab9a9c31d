"""Rollouts: start, watch, pause, approve, resume, abort, revert."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Response

from cloud.api import rollout_views as views
from cloud.api.context import Actor, Hub, ScopedOperator, ScopedViewer, identify
from cloud.api.etags import IfMatch, Seen
from cloud.api.paging import Paged
from cloud.api.reaching import model_in, selector_in
from cloud.api.schemas.rollouts import GateRequest, MemberView, RolloutRequest, RolloutView
from cloud.core.rollout import Command, Plan
from cloud.service import rollouts
from cloud.service.rollouts import NewRollout

router = APIRouter(prefix="/rollouts", tags=["rollouts"])


async def _seen(rollout: str, caller: Annotated[Actor, Depends(identify)], if_match: IfMatch = None) -> Seen:
    return Seen(if_match, lambda conn: views.rollout_tag(views.rollout_view(conn, rollout, caller.reach)))


SeenRollout = Annotated[Seen, Depends(_seen)]


@router.post("", status_code=201)
async def start(body: RolloutRequest, hub: Hub, actor: ScopedOperator, response: Response) -> RolloutView:
    """Start a rollout. 409 names the rollout that still holds a device; 422 the position of a mistake in a gate."""
    model_in(actor.reach, body.model)
    selector_in(actor.reach, body.selector)
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
    return await one(new.id, hub, actor, response)


@router.get("")
async def all_rollouts(hub: Hub, actor: ScopedViewer, page: Paged) -> list[RolloutView]:
    """Rollouts, oldest first."""
    return page.answer(await hub.read(lambda conn: views.rollout_views(conn, page.window, actor.reach)))


@router.get("/{rollout}")
async def one(rollout: str, hub: Hub, actor: ScopedViewer, response: Response) -> RolloutView:
    """One rollout, wave by wave, with the evidence of its gates."""
    view = await hub.read(lambda conn: views.rollout_view(conn, rollout, actor.reach))
    response.headers["ETag"] = views.rollout_tag(view)
    return view


@router.get("/{rollout}/members")
async def members(rollout: str, hub: Hub, actor: ScopedViewer, page: Paged) -> list[MemberView]:
    """The devices of a rollout, by name."""
    return page.answer(await hub.read(lambda conn: views.member_views(conn, rollout, page.window, actor.reach)))


@router.post("/{rollout}/{command}")
async def control(
    rollout: str, command: Command, hub: Hub, actor: ScopedOperator, seen: SeenRollout, response: Response
) -> RolloutView:
    """Pause; approve the next wave; resume (acknowledges what has been seen so far); abort (keeps what runs); or
    revert (aborts, and brings back what the devices reached ran before)."""
    await hub.change(lambda conn, now_ns: rollouts.control(conn, rollout, command, actor.name, now_ns), seen=seen)
    return await one(rollout, hub, actor, response)


def _plan(body: RolloutRequest) -> Plan:
    gates = [gate if isinstance(gate, GateRequest) else GateRequest(expression=gate) for gate in body.gates]
    asked = body.model_dump(exclude_none=True, include=set(Plan.__dataclass_fields__) - {"gates"})
    return msgspec.convert({**asked, "gates": [gate.model_dump() for gate in gates]}, Plan)
