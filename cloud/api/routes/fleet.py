"""Devices: announcing them, seeing them, and the overview of everything."""

from typing import Any

import msgspec
from fastapi import APIRouter
from sqlalchemy import Connection

from cloud.api import views
from cloud.api.context import Hub, Operator, Viewer
from cloud.api.schemas import ClaimRequest, DeviceView
from cloud.service import enrolment
from cloud.service.effects import NOTHING, Effects
from cloud.service.enrolment import NewClaim
from cloud.service.overview import overview
from cloud.service.trust.rows import current_root
from wire.identity import ClaimFile

router = APIRouter(tags=["fleet"])


@router.post("/claims", status_code=201)
async def claim(body: ClaimRequest, hub: Hub, actor: Operator) -> dict[str, Any]:
    """Announce a device; the answer is its claim file (wire.identity.ClaimFile), shown this once."""
    root = await hub.read(current_root)
    token = hub.ids.secret()
    new = NewClaim(body.device, body.labels, body.federated, token)

    def change(conn: Connection, now_ns: int) -> Effects:
        enrolment.claim(conn, new, actor.name, now_ns)
        return NOTHING

    await hub.change(change)
    file = ClaimFile(
        device=body.device,
        broker=hub.control.endpoint,
        topic_root=hub.topics.root,
        token=token,
        enrol_username=hub.fleet.enrol_username,
        enrol_password=hub.fleet.enrol_password,
        root=root,
    )
    document: dict[str, Any] = msgspec.to_builtins(file)
    return document


@router.get("/devices")
async def devices(hub: Hub, actor: Viewer) -> list[DeviceView]:
    """All devices."""
    return await hub.read(views.device_views)


@router.get("/devices/{name}")
async def device(name: str, hub: Hub, actor: Viewer) -> DeviceView:
    """One device with its newest documents."""
    return await hub.read(lambda conn: views.device_view(conn, name))


@router.get("/overview")
async def whole(hub: Hub, actor: Viewer) -> dict[str, Any]:
    """The whole loop at one moment (what the page shows)."""
    now_ns = hub.clock.now_ns()
    document: dict[str, Any] = msgspec.to_builtins(await hub.read(lambda conn: overview(conn, now_ns)))
    return document
