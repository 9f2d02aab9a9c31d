"""Server-sent events: a rollout or a device whenever it looks different, and every change in the order it was made.

A state's id is its digest and a change's id its number in the audit trail, so that whoever comes back with
`Last-Event-ID` misses nothing and gets nothing twice. A stream ends when its API key does, and when the hub does.
"""

import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Final, TypeVar

from fastapi import APIRouter, Depends, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel
from sqlalchemy import Connection

from cloud.api import rollout_views, views
from cloud.api.context import Actor, Context, Hub, ScopedViewer, Viewer
from cloud.api.schemas.devices import DeviceView
from cloud.api.schemas.rollouts import RolloutView
from cloud.service import keys
from cloud.service.changes import Changes
from wire.ports import SECOND

T = TypeVar("T")
router = APIRouter(tags=["events"])

LOOK_NS: Final = SECOND
NEWEST: Final = -1


async def _slot(hub: Hub, actor: ScopedViewer) -> AsyncIterator[None]:
    """Raises TooManyError when the key holds too many streams already."""
    with hub.limits.stream(actor.key):
        yield


async def _rollout(rollout: str, hub: Hub, actor: ScopedViewer) -> RolloutView:
    return await hub.read(lambda conn: rollout_views.rollout_view(conn, rollout, actor.reach))


async def _device(name: str, hub: Hub, actor: ScopedViewer) -> DeviceView:
    return await hub.read(lambda conn: views.device_view(conn, name, actor.reach))


Slot = Depends(_slot)
LastSeen = Annotated[str, Header(alias="Last-Event-ID", max_length=64)]
LastChange = Annotated[int, Header(alias="Last-Event-ID", ge=NEWEST, lt=2**63)]


@router.get("/rollouts/{rollout}/events", response_class=EventSourceResponse, dependencies=[Slot])
async def rollout_events(
    hub: Hub, actor: ScopedViewer, present: Annotated[RolloutView, Depends(_rollout)], last_event_id: LastSeen = ""
) -> AsyncIterator[ServerSentEvent]:
    """The rollout as it is, then whenever it is different (events `rollout`)."""
    async for view in _states(hub, actor, lambda conn: rollout_views.rollout_view(conn, present.id, actor.reach)):
        if (tag := _digest(view)) != last_event_id:
            last_event_id = tag
            yield ServerSentEvent(data=view, event="rollout", id=tag)


@router.get("/devices/{name}/events", response_class=EventSourceResponse, dependencies=[Slot])
async def device_events(
    hub: Hub, actor: ScopedViewer, present: Annotated[DeviceView, Depends(_device)], last_event_id: LastSeen = ""
) -> AsyncIterator[ServerSentEvent]:
    """The device as it is, then whenever it is different (events `device`)."""
    async for view in _states(hub, actor, lambda conn: views.device_view(conn, present.name, actor.reach)):
        if (tag := _digest(view)) != last_event_id:
            last_event_id = tag
            yield ServerSentEvent(data=view, event="device", id=tag)


@router.get("/events", response_class=EventSourceResponse, dependencies=[Slot])
async def changes(hub: Hub, actor: Viewer, last_event_id: LastChange = NEWEST) -> AsyncIterator[ServerSentEvent]:
    """Every change from now on, or after that of `Last-Event-ID` (events named by the action)."""
    following = Changes(hub.store, None if last_event_id == NEWEST else last_event_id)
    while await _look(hub, actor, lambda conn: True):
        for row in await following.look():
            yield ServerSentEvent(data=views.change_view(row), event=row.action, id=str(row.id))
        if not await hub.pause(LOOK_NS):
            return


async def _states(hub: Context, actor: Actor, look: Callable[[Connection], T]) -> AsyncIterator[T]:
    """What `look` finds, once a second, as long as the key is usable and the hub does not end."""
    while (state := await _look(hub, actor, look)) is not None:
        yield state
        if not await hub.pause(LOOK_NS):
            return


async def _look(hub: Context, actor: Actor, look: Callable[[Connection], T]) -> T | None:
    """What `look` finds; None once the key is over."""
    now_ns = hub.clock.now_ns()

    def found(conn: Connection) -> T | None:
        return look(conn) if keys.is_usable(conn, actor.key, now_ns) else None

    return await hub.read(found)


def _digest(view: BaseModel) -> str:
    return hashlib.sha256(view.model_dump_json().encode()).hexdigest()[:24]
