"""Health and API keys."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from sqlalchemy import Connection

from cloud.api import views
from cloud.api.context import Administrator, Hub, ScopedViewer
from cloud.api.etags import IfMatch, Seen
from cloud.api.paging import Paged
from cloud.api.schemas.access import FailingJob, Health, KeyRequest, KeyView, NewKeyView
from cloud.core.identity import Role, api_key, digest
from cloud.core.reach import Reach
from cloud.service import keys
from cloud.service.effects import NOTHING, Effects
from cloud.service.keys import NewKey

router = APIRouter(tags=["access"])
API_VERSION = "1"


async def _seen(key: str, hub: Hub, if_match: IfMatch = None) -> Seen:
    now_ns = hub.clock.now_ns()
    return Seen(if_match, lambda conn: views.key_tag(views.key_view(keys.one(conn, key), now_ns)))


SeenKey = Annotated[Seen, Depends(_seen)]


@router.get("/health")
async def health(hub: Hub) -> Health:
    """Is the hub up? Needs no key."""
    connected, failing = hub.link.connected, [FailingJob(**asdict(one)) for one in hub.failures.now()]
    whole = connected and not failing
    return Health(
        status="ok" if whole else "degraded", broker_connected=connected, failing=failing, version=API_VERSION
    )


@router.get("/me")
async def me(hub: Hub, actor: ScopedViewer, response: Response) -> KeyView:
    """The API key that asks."""
    return await _view(hub, actor.key, response)


@router.post("/keys", status_code=201)
async def make_key(body: KeyRequest, hub: Hub, actor: Administrator, response: Response) -> NewKeyView:
    """Make an API key; it is shown this once."""
    key = api_key(hub.ids.secret())
    reach = Reach(body.labels, frozenset(body.models))
    new = NewKey(body.name, Role(body.role), reach, body.expires_in_s, body.requests_per_s)

    def change(conn: Connection, now_ns: int) -> Effects:
        keys.make(conn, new, key, actor.name, now_ns)
        return NOTHING

    await hub.change(change, shown_once=True)
    view = await _view(hub, digest(key)[:16], response)
    return NewKeyView(**view.model_dump(), key=key)


@router.get("/keys")
async def all_keys(hub: Hub, actor: Administrator, page: Paged) -> list[KeyView]:
    """API keys, oldest first, those that are over among them."""
    now_ns = hub.clock.now_ns()
    return page.answer(await hub.read(lambda conn: views.key_views(conn, page.window, now_ns)))


@router.get("/keys/{key}")
async def one_key(key: str, hub: Hub, actor: Administrator, response: Response) -> KeyView:
    """One API key by its id."""
    return await _view(hub, key, response)


@router.post("/keys/{key}/revoke")
async def revoke_key(key: str, hub: Hub, actor: Administrator, seen: SeenKey, response: Response) -> KeyView:
    """End an API key at once. The last administrator's key without an end stays."""

    def change(conn: Connection, now_ns: int) -> Effects:
        keys.revoke(conn, key, actor.name, now_ns)
        return NOTHING

    await hub.change(change, seen=seen)
    return await _view(hub, key, response)


async def _view(hub: Hub, key: str, response: Response) -> KeyView:
    now_ns = hub.clock.now_ns()
    view = await hub.read(lambda conn: views.key_view(keys.one(conn, key), now_ns))
    response.headers["ETag"] = views.key_tag(view)
    return view
