"""Health and API keys."""

from fastapi import APIRouter
from sqlalchemy import Connection, insert

from cloud.api.context import Administrator, Hub
from cloud.api.schemas import Health, KeyRequest, KeyView
from cloud.core.identity import api_key, digest
from cloud.service import audit
from cloud.service.effects import NOTHING, Effects
from cloud.tables import api_keys

router = APIRouter(tags=["access"])
API_VERSION = "1"


@router.get("/health")
async def health(hub: Hub) -> Health:
    """Is the hub up? Needs no key."""
    connected = hub.link.connected
    return Health(status="ok" if connected else "degraded", broker_connected=connected, version=API_VERSION)


@router.post("/keys", status_code=201)
async def make_key(body: KeyRequest, hub: Hub, actor: Administrator) -> KeyView:
    """Make an API key; it is shown this once."""
    key = api_key(hub.ids.secret())

    def change(conn: Connection, now_ns: int) -> Effects:
        row = {"sha256": digest(key), "name": body.name, "role": body.role, "created_ns": now_ns}
        conn.execute(insert(api_keys).values(row))
        audit.record(conn, now_ns, actor.name, ("key.create", body.name), role=body.role)
        return NOTHING

    await hub.change(change)
    return KeyView(name=body.name, role=body.role, key=key)
