"""The TUF repository: what stands, its files, and what comes signed from the publisher or the holders of root keys."""

import hashlib

from fastapi import APIRouter, Response
from sqlalchemy import Connection

from cloud.api.context import Administrator, Hub, Publisher, Viewer
from cloud.api.schemas.trust import DeliveryRequest, HeldKeys, RoleView, RootRequest, TrustKeys, TrustView
from cloud.core.trust import ROOT, SNAPSHOT, TARGETS, TIMESTAMP
from cloud.ports import Notary
from cloud.service.effects import NOTHING, Effects
from cloud.service.trust import deliveries
from cloud.service.trust.freshness import complete
from cloud.service.trust.rows import file, newest
from wire.trust import bin_roles

router = APIRouter(tags=["trust"])


@router.get("/trust")
async def trust(hub: Hub, actor: Viewer) -> TrustView:
    """Keys by role, newest versions and expiries, and the public keys that a root for this hub has to name."""
    notary = hub.trust.notary
    return await hub.read(lambda conn: _view(conn, notary))


@router.get("/trust/metadata/{name}", response_class=Response)
async def metadata(name: str, hub: Hub, actor: Viewer) -> Response:
    """A file of the repository: `timestamp.json`, `7.root.json`, `3.bin-a.json`..."""
    return Response(await hub.read(lambda conn: file(conn, name)), media_type="application/json")


@router.post("/trust/metadata")
async def deliver(body: DeliveryRequest, hub: Hub, actor: Publisher) -> TrustView:
    """Targets and bins that the publisher has signed anew; what they list stays as it was."""
    files, notary = body.files(), hub.trust.notary

    def change(conn: Connection, now_ns: int) -> Effects:
        deliveries.deliver(conn, notary, files, actor.name, now_ns, restored=body.restored)
        return NOTHING

    await hub.change(change)
    return await hub.read(lambda conn: _view(conn, notary))


@router.post("/trust/roots")
async def adopt_root(body: RootRequest, hub: Hub, actor: Administrator) -> TrustView:
    """A first root, or the next one: signed by enough of the old and of the new root keys."""
    notary = hub.trust.notary

    def change(conn: Connection, now_ns: int) -> Effects:
        deliveries.adopt_root(conn, notary, body.root, actor.name, now_ns)
        return NOTHING

    await hub.change(change)
    hub.trust.wake()
    return await hub.read(lambda conn: _view(conn, notary))


def _view(conn: Connection, notary: Notary) -> TrustView:
    rows = {role: newest(conn, role) for role in (ROOT, TIMESTAMP, SNAPSHOT, TARGETS, *bin_roles())}
    roles = {
        role: RoleView(version=row.version, expires_ns=row.expires_ns, sha256=hashlib.sha256(row.content).hexdigest())
        for role, row in rows.items()
        if row is not None
    }
    root = rows[ROOT]
    keys = None if root is None else notary.keys_of(root.content)
    return TrustView(
        ready=root is not None and complete(conn, notary, root.content) is not None,
        keys=None if keys is None else TrustKeys.model_validate(keys, from_attributes=True),
        held=HeldKeys(online=list(notary.online_keys), director=list(notary.director_keys)),
        roles=roles,
    )
