"""Rollouts: start, watch, pause, resume, abort."""

from fastapi import APIRouter, Response
from sqlalchemy import Connection

from cloud.api import views
from cloud.api.context import Hub, ScopedOperator, ScopedViewer
from cloud.api.etags import IfMatch, check
from cloud.api.paging import Paged
from cloud.api.reaching import model_in, selector_in
from cloud.api.schemas import RolloutRequest, RolloutView, WaveRequest
from cloud.core.gates import Gates
from cloud.core.rollout import Command, Plan, Wave
from cloud.errors import InvalidError
from cloud.service import rollouts
from cloud.service.effects import Effects
from cloud.service.rollouts import NewRollout

router = APIRouter(prefix="/rollouts", tags=["rollouts"])


@router.post("", status_code=201)
async def start(body: RolloutRequest, hub: Hub, actor: ScopedOperator, response: Response) -> RolloutView:
    """Start a rollout. 409 names the rollout that still holds a device."""
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
    """Rollouts, oldest first, without their members."""
    return page.answer(await hub.read(lambda conn: views.rollout_views(conn, page.window, actor.reach)))


@router.get("/{rollout}")
async def one(rollout: str, hub: Hub, actor: ScopedViewer, response: Response) -> RolloutView:
    """One rollout, wave by wave, with its members."""
    view = await hub.read(lambda conn: views.rollout_view(conn, rollout, actor.reach))
    response.headers["ETag"] = views.rollout_tag(view)
    return view


@router.post("/{rollout}/{command}")
async def control(
    rollout: str, command: Command, hub: Hub, actor: ScopedOperator, response: Response, if_match: IfMatch = None
) -> RolloutView:
    """Pause, resume (acknowledges the failures seen so far) or abort (keeps what runs)."""

    def change(conn: Connection, now_ns: int) -> Effects:
        check(if_match, views.rollout_tag(views.rollout_view(conn, rollout, actor.reach)))
        return rollouts.control(conn, rollout, command, actor.name, now_ns)

    await hub.change(change)
    return await one(rollout, hub, actor, response)


def _plan(body: RolloutRequest) -> Plan:
    return Plan(
        waves=tuple(_wave(index, wave) for index, wave in enumerate(body.waves)),
        gates=Gates(body.gates.commit_rate, body.gates.golden_agreement, body.gates.minimum_sample),
        health_window_s=body.health_window_s,
        step_timeout_s=body.step_timeout_s,
        total_timeout_s=body.total_timeout_s,
    )


def _wave(index: int, wave: WaveRequest) -> Wave:
    if (wave.count is None) == (wave.percent is None):
        raise InvalidError(f"waves.{index}: give either a count or a percent")
    return Wave(wave.count, wave.percent)
