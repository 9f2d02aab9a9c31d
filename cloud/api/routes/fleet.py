"""Devices: announcing them, seeing them, and the overview of everything."""

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import Connection

from cloud.api import views
from cloud.api.context import Actor, Context, Hub, ScopedOperator, ScopedViewer, Viewer
from cloud.api.etags import IfMatch, check
from cloud.api.paging import Paged
from cloud.api.reaching import selector_in
from cloud.api.schemas.claims import ClaimRequest, ClaimsRequest, ClaimTerms
from cloud.api.schemas.devices import DeviceView, RevocationRequest
from cloud.errors import InvalidError
from cloud.service import enrolment, revocation
from cloud.service.effects import NOTHING, Effects
from cloud.service.enrolment import NewClaim
from cloud.service.overview import overview
from cloud.service.trust.rows import current_root
from wire.codec import encode
from wire.identity import ClaimFile

router = APIRouter(tags=["fleet"])


CLAIMS_AT_ONCE = 200
"""Claims made in one transaction, so that many do not hold up what devices report."""


@router.post("/claims", status_code=201)
async def claim(body: ClaimRequest, hub: Hub, actor: ScopedOperator) -> dict[str, Any]:
    """Announce a device; the answer is its claim file (wire.identity.ClaimFile), shown this once."""
    root = await hub.read(current_root)
    files = await _claim(hub, [body.device], body, actor, root)
    document: dict[str, Any] = msgspec.to_builtins(files[0])
    return document


@router.post("/claims/batch", status_code=201, response_class=StreamingResponse)
async def claim_many(body: ClaimsRequest, hub: Hub, actor: ScopedOperator) -> StreamingResponse:
    """Announce many devices; the answer is one claim file a line (JSON lines), in order, each shown this once.

    Whoever loses the answer on its way asks again: of the claim files of a device the newest one is good.
    """
    names = _names(body)
    for name in names:
        enrolment.check_name(name)
    root = await hub.read(current_root)

    async def lines() -> AsyncIterator[bytes]:
        for start in range(0, len(names), CLAIMS_AT_ONCE):
            for file in await _claim(hub, names[start : start + CLAIMS_AT_ONCE], body, actor, root):
                yield encode(file) + b"\n"

    return StreamingResponse(lines(), 201, media_type="application/x-ndjson")


def _names(body: ClaimsRequest) -> list[str]:
    if (body.devices is None) == (body.prefix is None):
        raise InvalidError("give either the names of the devices or a prefix for them")
    if body.devices is None:
        return [f"{body.prefix}-{body.first + index:04}" for index in range(body.count)]
    if len(set(body.devices)) < len(body.devices):
        raise InvalidError("a device is named twice")
    return body.devices


async def _claim(hub: Context, names: Sequence[str], terms: ClaimTerms, actor: Actor, root: bytes) -> list[ClaimFile]:
    tokens = {name: hub.ids.secret() for name in names}

    def change(conn: Connection, now_ns: int) -> Effects:
        for name, token in tokens.items():
            _may_claim(conn, name, terms, actor)
            new = NewClaim(name, terms.labels, terms.federated, token, terms.replaces)
            enrolment.claim(conn, new, actor.name, now_ns)
        return NOTHING

    await hub.change(change, shown_once=True)
    return [_claim_file(hub, name, token, root) for name, token in tokens.items()]


def _may_claim(conn: Connection, name: str, terms: ClaimTerms, actor: Actor) -> None:
    """Neither a device beyond the key's reach, nor one that the claim would put there. Raises ForbiddenError."""
    said = [labels for labels in (enrolment.labels_of(conn, name), terms.labels) if labels is not None]
    for labels in said or [{}]:
        selector_in(actor.reach, labels)


def _claim_file(hub: Context, device: str, token: str, root: bytes) -> ClaimFile:
    return ClaimFile(
        device=device,
        broker=hub.control.endpoint,
        enrol=hub.control.enrolment,
        credential=hub.control.credential,
        topic_root=hub.topics.root,
        token=token,
        enrol_username=hub.fleet.enrol_username,
        enrol_password=hub.fleet.enrol_password,
        root=root,
    )


@router.post("/devices/{name}/revoke")
async def revoke(
    name: str, body: RevocationRequest, hub: Hub, actor: ScopedOperator, response: Response, if_match: IfMatch = None
) -> DeviceView:
    """Put a device out of the fleet: it is no longer heard, and its connection ends. A new claim brings it back."""

    def change(conn: Connection, now_ns: int) -> Effects:
        check(if_match, views.device_tag(views.device_view(conn, name, actor.reach)))
        return revocation.revoke(conn, name, body.reason, (actor.name, now_ns), hub.topics)

    await hub.change(change)
    return await device(name, hub, actor, response)


@router.post("/devices/{name}/clone-alarm/off")
async def call_off_clone_alarm(
    name: str, hub: Hub, actor: ScopedOperator, response: Response, if_match: IfMatch = None
) -> DeviceView:
    """There is no second device under this name (any more)."""

    def change(conn: Connection, now_ns: int) -> Effects:
        check(if_match, views.device_tag(views.device_view(conn, name, actor.reach)))
        return revocation.call_off_clone_alarm(conn, name, actor.name, now_ns)

    await hub.change(change)
    return await device(name, hub, actor, response)


@router.get("/devices")
async def devices(
    hub: Hub,
    actor: ScopedViewer,
    page: Paged,
    selector: Annotated[str, Query(max_length=1000, examples=["arm=left, @online=true"])] = "",
) -> list[DeviceView]:
    """Devices that the selector means, by name; all of them without one. Those decommissioned are left out."""
    return page.answer(await hub.read(lambda conn: views.device_views(conn, page.window, actor.reach, selector)))


@router.get("/devices/{name}")
async def device(name: str, hub: Hub, actor: ScopedViewer, response: Response) -> DeviceView:
    """One device with its newest documents."""
    view = await hub.read(lambda conn: views.device_view(conn, name, actor.reach))
    response.headers["ETag"] = views.device_tag(view)
    return view


@router.get("/overview")
async def whole(hub: Hub, actor: Viewer) -> dict[str, Any]:
    """The whole loop at one moment (what the page shows)."""
    now_ns = hub.clock.now_ns()
    document: dict[str, Any] = msgspec.to_builtins(await hub.read(lambda conn: overview(conn, now_ns)))
    return document
