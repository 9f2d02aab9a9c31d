"""Groups of devices: a selector under a name."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from sqlalchemy import Connection, Row, select

from cloud.api import views
from cloud.api.context import Hub, Operator, Viewer
from cloud.api.etags import IfMatch, Seen, etag
from cloud.api.paging import Paged, Slice
from cloud.api.schemas.base import Name
from cloud.api.schemas.devices import DeviceView
from cloud.api.schemas.fleet import GroupRequest, GroupView
from cloud.service import groups
from cloud.tables import device_groups

router = APIRouter(prefix="/groups", tags=["groups"])


async def _seen(name: str, if_match: IfMatch = None) -> Seen:
    return Seen(if_match, lambda conn: _tag_of(conn, name))


SeenGroup = Annotated[Seen, Depends(_seen)]


@router.get("")
async def all_groups(hub: Hub, actor: Viewer, page: Paged) -> list[GroupView]:
    """Groups by name."""

    def look(conn: Connection) -> Slice[GroupView]:
        return page.window.views(conn, select(device_groups), (device_groups.c.name,), lambda row: _view(conn, row))

    return page.answer(await hub.read(look))


@router.get("/{name}")
async def one(name: str, hub: Hub, actor: Viewer, response: Response) -> GroupView:
    """One group."""
    view = await hub.read(lambda conn: _view(conn, groups.find(conn, name)))
    response.headers["ETag"] = _tag(view)
    return view


@router.get("/{name}/devices")
async def members(name: str, hub: Hub, actor: Viewer, page: Paged) -> list[DeviceView]:
    """Devices that belong to the group now, by name, announced ones included."""

    def look(conn: Connection) -> Slice[DeviceView]:
        return views.device_views(conn, page.window, selector=groups.find(conn, name).selector)

    return page.answer(await hub.read(look))


@router.put("/{name}")
async def put(
    name: Name, body: GroupRequest, hub: Hub, actor: Operator, seen: SeenGroup, response: Response
) -> GroupView:
    """Make the group, or give it another selector; rollouts by it go on with who belongs to it then."""
    await hub.change(
        lambda conn, now_ns: groups.put(conn, name, body.selector, body.description, (actor.name, now_ns)), seen=seen
    )
    return await one(name, hub, actor, response)


@router.delete("/{name}", status_code=204)
async def remove(name: str, hub: Hub, actor: Operator, seen: SeenGroup) -> Response:
    """Forget the group; its devices stay as they are. 409 while a rollout or federated run goes by it."""
    await hub.change(lambda conn, now_ns: groups.remove(conn, name, actor.name, now_ns), seen=seen)
    return Response(status_code=204)


def _tag(group: GroupView | Row[Any]) -> str:
    return etag(group.name, group.selector, group.description)


def _tag_of(conn: Connection, name: str) -> str | None:
    row = conn.execute(select(device_groups).where(device_groups.c.name == name)).one_or_none()
    return None if row is None else _tag(row)


def _view(conn: Connection, row: Row[Any]) -> GroupView:
    return GroupView.model_validate({**row._mapping, "devices": groups.size(conn, row)})
