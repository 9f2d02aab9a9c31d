"""Rollouts: start, watch, pause, resume, abort."""

from fastapi import APIRouter

from cloud.api import views
from cloud.api.context import Hub, Operator, Viewer
from cloud.api.schemas import RolloutRequest, RolloutView, WaveRequest
from cloud.core.gates import Gates
from cloud.core.rollout import Command, Plan, Wave
from cloud.errors import InvalidError
from cloud.service import rollouts
from cloud.service.rollouts import NewRollout

router = APIRouter(prefix="/rollouts", tags=["rollouts"])


@router.post("", status_code=201)
async def start(body: RolloutRequest, hub: Hub, actor: Operator) -> RolloutView:
    """Start a rollout. 409 names the rollout that still holds a device."""
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
    """One rollout, wave by wave, with its members."""
    return await hub.read(lambda conn: views.rollout_view(conn, rollout))


@router.post("/{rollout}/{command}")
async def control(rollout: str, command: Command, hub: Hub, actor: Operator) -> RolloutView:
    """Pause, resume (acknowledges the failures seen so far) or abort (keeps what runs)."""
    await hub.change(lambda conn, now_ns: rollouts.control(conn, rollout, command, actor.name, now_ns))
    return await hub.read(lambda conn: views.rollout_view(conn, rollout))


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
