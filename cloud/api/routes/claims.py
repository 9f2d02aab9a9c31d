"""Announcing devices: claim files, one by one and by the hundred."""

import functools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from sqlalchemy import Connection

from cloud.api.context import Actor, Context, Hub, ScopedOperator
from cloud.api.reaching import selector_in
from cloud.api.schemas.claims import ClaimRequest, ClaimsRequest, ClaimTerms
from cloud.errors import InvalidError
from cloud.service import enrolment
from cloud.service.effects import NOTHING, Effects
from cloud.service.enrolment import NewClaim
from cloud.service.trust.rows import current_root
from wire.codec import encode
from wire.identity import ClaimFile

router = APIRouter(prefix="/claims", tags=["claims"])

CLAIMS_AT_ONCE = 200
"""Claims made in one transaction, so that many do not hold up what devices report."""


@router.post("", status_code=201)
async def claim(body: ClaimRequest, hub: Hub, actor: ScopedOperator) -> dict[str, Any]:
    """Announce a device; the answer is its claim file (wire.identity.ClaimFile), shown this once."""
    root = await hub.read(current_root)
    files = await _claim(hub, [body.device], body, actor, root)
    document: dict[str, Any] = msgspec.to_builtins(files[0])
    return document


@router.post("/batch", status_code=201, response_class=StreamingResponse)
async def claim_many(body: ClaimsRequest, hub: Hub, actor: ScopedOperator) -> StreamingResponse:
    """Announce many devices; the answer is one claim file a line (JSON lines), in order, each shown this once.

    All of them are looked at before the first claim is made. Whoever loses the answer on its way asks again: of the
    claim files of a device the newest one is good.
    """
    names = _names(body)
    portions = [names[start : start + CLAIMS_AT_ONCE] for start in range(0, len(names), CLAIMS_AT_ONCE)]
    root = await hub.read(current_root)
    for portion in portions:
        await hub.read(functools.partial(_may_claim, names=portion, terms=body, actor=actor))

    async def lines() -> AsyncIterator[bytes]:
        for portion in portions:
            for file in await _claim(hub, portion, body, actor, root):
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
        _may_claim(conn, names, terms, actor)
        for name, token in tokens.items():
            new = NewClaim(name, terms.labels, terms.federated, token, terms.replaces)
            enrolment.claim(conn, new, actor.name, now_ns)
        return NOTHING

    await hub.change(change, shown_once=True)
    return [_claim_file(hub, name, token, root) for name, token in tokens.items()]


def _may_claim(conn: Connection, names: Sequence[str], terms: ClaimTerms, actor: Actor) -> None:
    """None may lie beyond the key's reach, nor be put there by the claim.

    Raises ForbiddenError, and whatever a claim of one of them would raise.
    """
    known = enrolment.claimable(conn, names, replaces=terms.replaces)
    for name in names:
        said = [labels for labels in (known.get(name), terms.labels) if labels is not None]
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
