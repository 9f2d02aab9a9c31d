"""One device in the hands of an operator: twin, history, labels, holds and pins, its end; and the fleet as a whole."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from sqlalchemy import Connection, select

from cloud.api import views
from cloud.api.context import Hub, Operator, Viewer
from cloud.api.schemas.base import Name, ReasonRequest
from cloud.api.schemas.devices import DeviceView, EventView, LabelsRequest, PinRequest, PinView, SlotTwinView, TwinView
from cloud.api.schemas.fleet import AgentView, FleetView
from cloud.core.presence import Standing
from cloud.core.twin import SlotTwin
from cloud.service import history, holds, restraints, twin, upkeep
from cloud.tables import devices, pins

router = APIRouter(tags=["devices"])
MAX_NS = 2**63 - 1


@router.get("/devices/{name}/twin")
async def device_twin(name: str, hub: Hub, actor: Viewer) -> TwinView:
    """What the device shall run beside what it says it runs."""
    now_ns = hub.clock.now_ns()
    return await hub.read(lambda conn: _twin(conn, name, now_ns))


@router.get("/devices/{name}/history")
async def device_history(
    name: str,
    hub: Hub,
    actor: Viewer,
    before_ns: Annotated[int, Query(ge=0, le=MAX_NS)] = MAX_NS,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[EventView]:
    """What happened to the device, newest first: what people did, executions, absences, upgrades of its agent."""

    def look(conn: Connection) -> list[history.Event]:
        views.device_view(conn, name)
        return history.of_device(conn, name, before_ns, limit)

    found = await hub.read(look)
    return [EventView.model_validate(one, from_attributes=True) for one in found]


@router.patch("/devices/{name}/labels")
async def edit_labels(name: str, body: LabelsRequest, hub: Hub, actor: Operator) -> DeviceView:
    """Put and drop labels. Groups and running rollouts go by the new ones at once."""
    await hub.change(lambda conn, now_ns: upkeep.edit_labels(conn, name, body.put, body.drop, (actor.name, now_ns)))
    return await _device(hub, name)


@router.post("/devices/{name}/hold")
async def hold(name: str, body: ReasonRequest, hub: Hub, actor: Operator) -> DeviceView:
    """Keep the device as it is: no rollout takes it. What is under way on it goes on to its end."""
    await hub.change(lambda conn, now_ns: holds.hold(conn, name, body.reason, actor.name, now_ns))
    return await _device(hub, name)


@router.post("/devices/{name}/release")
async def release(name: str, hub: Hub, actor: Operator) -> DeviceView:
    """Rollouts may take the device again; in those that run it is a late joiner."""
    await hub.change(lambda conn, now_ns: holds.release(conn, name, actor.name, now_ns))
    return await _device(hub, name)


@router.put("/devices/{name}/pins/{slot}")
async def pin(name: str, slot: Name, body: PinRequest, hub: Hub, actor: Operator) -> TwinView:
    """Keep a slot at one version: rollouts of another one leave the device out. It installs nothing."""
    to = (body.model, body.version)
    await hub.change(lambda conn, now_ns: holds.pin(conn, (name, slot), to, body.reason, (actor.name, now_ns)))
    return await device_twin(name, hub, actor)


@router.delete("/devices/{name}/pins/{slot}")
async def unpin(name: str, slot: Name, hub: Hub, actor: Operator) -> TwinView:
    """Any version may take the slot again."""
    await hub.change(lambda conn, now_ns: holds.unpin(conn, name, slot, actor.name, now_ns))
    return await device_twin(name, hub, actor)


@router.post("/devices/{name}/decommission")
async def decommission(name: str, body: ReasonRequest, hub: Hub, actor: Operator) -> DeviceView:
    """Take the device out for good: its identity is revoked, nothing is desired of it, its history stays."""
    await hub.change(
        lambda conn, now_ns: upkeep.decommission(conn, name, body.reason, (actor.name, now_ns), hub.topics)
    )
    return await _device(hub, name)


@router.get("/fleet")
async def fleet(hub: Hub, actor: Viewer) -> FleetView:
    """Is it halted, who is there, and which agents does it run?"""
    now_ns = hub.clock.now_ns()
    return await hub.read(lambda conn: _fleet(conn, now_ns))


@router.post("/fleet/halt")
async def halt(body: ReasonRequest, hub: Hub, actor: Operator) -> FleetView:
    """Assign nobody anything, in whatever rollout, until the fleet is resumed."""
    await hub.change(lambda conn, now_ns: holds.halt(conn, body.reason, actor.name, now_ns))
    return await fleet(hub, actor)


@router.post("/fleet/resume")
async def resume(hub: Hub, actor: Operator) -> FleetView:
    """Rollouts go on where they stopped."""
    await hub.change(lambda conn, now_ns: holds.resume(conn, actor.name, now_ns))
    return await fleet(hub, actor)


async def _device(hub: Hub, name: str) -> DeviceView:
    return await hub.read(lambda conn: views.device_view(conn, name))


def _twin(conn: Connection, name: str, now_ns: int) -> TwinView:
    found = twin.load(conn, name, now_ns)
    row = conn.execute(select(devices.c.held_ns, devices.c.held_reason).where(devices.c.name == name)).one()
    pinned = conn.execute(select(pins).where(pins.c.device == name).order_by(pins.c.slot))
    return TwinView(
        device=name,
        presence=found.presence.value,
        gone_ns=found.gone_ns,
        agent=found.agent,
        skew=found.skew.value,
        desired_sequence=found.desired_sequence,
        accepted_sequence=found.accepted_sequence,
        held=None if row.held_ns is None else row.held_reason,
        pins=[PinView.model_validate(one._mapping) for one in pinned],
        slots=[_slot(one) for one in found.slots],
    )


def _slot(one: SlotTwin) -> SlotTwinView:
    plain: list[dict[str, Any] | None] = [msgspec.to_builtins(side) for side in (one.desired, one.reported)]
    return SlotTwinView(slot=one.slot, sync=one.sync.value, reason=one.reason, desired=plain[0], reported=plain[1])


def _fleet(conn: Connection, now_ns: int) -> FleetView:
    there = twin.presence_counts(conn, now_ns)
    return FleetView(
        halted=restraints.halted(conn) or None,
        online=there[Standing.ONLINE],
        away=there[Standing.AWAY],
        offline=there[Standing.OFFLINE],
        agents=[AgentView(agent=one.agent, skew=one.skew.value, devices=one.devices) for one in twin.agents(conn)],
    )
