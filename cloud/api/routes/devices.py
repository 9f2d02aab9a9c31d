"""Devices as they are: lists, one of them, its twin and its history."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Response
from sqlalchemy import Connection

from cloud.api import views
from cloud.api.context import Hub, ScopedViewer, Viewer
from cloud.api.paging import Paged
from cloud.api.schemas.devices import DeviceView, EventView, SlotTwinView, TwinView
from cloud.core.twin import SlotTwin
from cloud.service import history, twin

router = APIRouter(prefix="/devices", tags=["devices"])
MAX_NS = 2**63 - 1


@router.get("")
async def devices(
    hub: Hub,
    actor: ScopedViewer,
    page: Paged,
    selector: Annotated[str, Query(max_length=1000, examples=["arm=left, @online=true"])] = "",
) -> list[DeviceView]:
    """Devices that the selector means, by name; all of them without one. Those decommissioned are left out."""
    return page.answer(await hub.read(lambda conn: views.device_views(conn, page.window, actor.reach, selector)))


@router.get("/{name}")
async def device(name: str, hub: Hub, actor: ScopedViewer, response: Response) -> DeviceView:
    """One device with its newest documents."""
    view = await hub.read(lambda conn: views.device_view(conn, name, actor.reach))
    response.headers["ETag"] = views.device_tag(view)
    return view


@router.get("/{name}/twin")
async def device_twin(name: str, hub: Hub, actor: Viewer, response: Response) -> TwinView:
    """What the device shall run beside what it says it runs."""
    now_ns = hub.clock.now_ns()

    def look(conn: Connection) -> tuple[TwinView, DeviceView]:
        view = views.device_view(conn, name)
        return _twin(twin.load(conn, name, now_ns), view), view

    found, view = await hub.read(look)
    response.headers["ETag"] = views.device_tag(view)
    return found


@router.get("/{name}/history")
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


def _twin(found: twin.Twin, view: DeviceView) -> TwinView:
    return TwinView(
        device=view.name,
        presence=found.presence.value,
        gone_ns=found.gone_ns,
        agent=found.agent,
        skew=found.skew.value,
        desired_sequence=found.desired_sequence,
        accepted_sequence=found.accepted_sequence,
        held=view.held_reason or None,
        pins=view.pins,
        slots=[_slot(one) for one in found.slots],
    )


def _slot(one: SlotTwin) -> SlotTwinView:
    plain: list[dict[str, Any] | None] = [msgspec.to_builtins(side) for side in (one.desired, one.reported)]
    return SlotTwinView(slot=one.slot, sync=one.sync.value, reason=one.reason, desired=plain[0], reported=plain[1])
