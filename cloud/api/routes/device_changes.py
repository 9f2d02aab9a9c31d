"""What operators decide about one device: labels, holds and pins, its identity, its end."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from cloud.api import views
from cloud.api.context import Actor, Hub, Operator, ScopedOperator, identify
from cloud.api.etags import IfMatch, Seen
from cloud.api.routes.devices import device, device_twin
from cloud.api.schemas.base import Name, ReasonRequest
from cloud.api.schemas.devices import (
    DeviceRequest,
    DeviceView,
    LabelsRequest,
    PinRequest,
    RevocationRequest,
    TwinView,
)
from cloud.service import holds, revocation, upkeep

router = APIRouter(prefix="/devices/{name}", tags=["devices"])


async def _seen(name: str, caller: Annotated[Actor, Depends(identify)], if_match: IfMatch = None) -> Seen:
    return Seen(if_match, lambda conn: views.device_tag(views.device_view(conn, name, caller.reach)))


async def _slot(name: str, slot: Name) -> tuple[str, str]:
    return name, slot


Slot = Annotated[tuple[str, str], Depends(_slot)]
"""Device and slot that the path names."""
SeenDevice = Annotated[Seen, Depends(_seen)]


@router.patch("")
async def edit(
    name: str, body: DeviceRequest, hub: Hub, actor: Operator, seen: SeenDevice, response: Response
) -> DeviceView:
    """Change what its claim said of it; what is left out stays as it is."""
    await hub.change(lambda conn, now_ns: upkeep.edit(conn, name, body.federated, (actor.name, now_ns)), seen=seen)
    return await device(name, hub, actor, response)


@router.patch("/labels")
async def edit_labels(
    name: str, body: LabelsRequest, hub: Hub, actor: Operator, seen: SeenDevice, response: Response
) -> DeviceView:
    """Put and drop labels. Groups and running rollouts go by the new ones at once."""
    await hub.change(
        lambda conn, now_ns: upkeep.edit_labels(conn, name, body.put, body.drop, (actor.name, now_ns)), seen=seen
    )
    return await device(name, hub, actor, response)


@router.post("/hold")
async def hold(
    name: str, body: ReasonRequest, hub: Hub, actor: Operator, seen: SeenDevice, response: Response
) -> DeviceView:
    """Keep the device as it is: no rollout takes it. What is under way on it goes on to its end."""
    await hub.change(lambda conn, now_ns: holds.hold(conn, name, body.reason, actor.name, now_ns), seen=seen)
    return await device(name, hub, actor, response)


@router.post("/release")
async def release(name: str, hub: Hub, actor: Operator, seen: SeenDevice, response: Response) -> DeviceView:
    """Rollouts may take the device again; in those that run it is a late joiner."""
    await hub.change(lambda conn, now_ns: holds.release(conn, name, actor.name, now_ns), seen=seen)
    return await device(name, hub, actor, response)


@router.put("/pins/{slot}")
async def pin(of: Slot, body: PinRequest, hub: Hub, actor: Operator, seen: SeenDevice, response: Response) -> TwinView:
    """Keep a slot at one version: rollouts of another one leave the device out. It installs nothing."""
    to = (body.model, body.version)
    await hub.change(lambda conn, now_ns: holds.pin(conn, of, to, body.reason, (actor.name, now_ns)), seen=seen)
    return await device_twin(of[0], hub, actor, response)


@router.delete("/pins/{slot}")
async def unpin(of: Slot, hub: Hub, actor: Operator, seen: SeenDevice, response: Response) -> TwinView:
    """Any version may take the slot again."""
    await hub.change(lambda conn, now_ns: holds.unpin(conn, *of, actor.name, now_ns), seen=seen)
    return await device_twin(of[0], hub, actor, response)


@router.post("/revoke")
async def revoke(
    name: str, body: RevocationRequest, hub: Hub, actor: ScopedOperator, seen: SeenDevice, response: Response
) -> DeviceView:
    """Put a device out of the fleet: it is no longer heard, and its connection ends. A new claim brings it back."""
    await hub.change(
        lambda conn, now_ns: revocation.revoke(conn, name, body.reason, (actor.name, now_ns), hub.topics), seen=seen
    )
    return await device(name, hub, actor, response)


@router.post("/clone-alarm/off")
async def call_off_clone_alarm(
    name: str, hub: Hub, actor: ScopedOperator, seen: SeenDevice, response: Response
) -> DeviceView:
    """There is no second device under this name (any more)."""
    await hub.change(lambda conn, now_ns: revocation.call_off_clone_alarm(conn, name, actor.name, now_ns), seen=seen)
    return await device(name, hub, actor, response)


@router.post("/decommission")
async def decommission(
    name: str, body: ReasonRequest, hub: Hub, actor: Operator, seen: SeenDevice, response: Response
) -> DeviceView:
    """Take the device out for good: its identity is revoked, nothing is desired of it, its history stays."""
    await hub.change(
        lambda conn, now_ns: upkeep.decommission(conn, name, body.reason, (actor.name, now_ns), hub.topics), seen=seen
    )
    return await device(name, hub, actor, response)
