"""Health, API keys, and which publishers are trusted."""

from fastapi import APIRouter
from sqlalchemy import Connection, insert

from cloud.api.context import Administrator, Hub
from cloud.api.schemas import Health, KeyRequest, KeyView, PublisherKeyRequest
from cloud.core.identity import api_key, digest
from cloud.errors import InvalidError
from cloud.service import audit, registry
from cloud.service.effects import NOTHING, Effects
from cloud.tables import api_keys
from wire.adapters.keys import verifiers
from wire.errors import MalformedError

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


@router.post("/publisher-keys", status_code=201)
async def trust_publisher(body: PublisherKeyRequest, hub: Hub, actor: Administrator) -> PublisherKeyRequest:
    """Trust a publisher's public key from now on. Devices learn of it through their claim files."""
    try:
        verifiers([body.public_key])
    except MalformedError as error:
        raise InvalidError(str(error)) from error

    def change(conn: Connection, now_ns: int) -> Effects:
        registry.trust(conn, body.public_key, body.name, actor.name, now_ns)
        return NOTHING

    await hub.change(change)
    return body
