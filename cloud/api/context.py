"""What every route needs: the hub's ports, the caller's identity, and the one way to make a change."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, cast

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Connection, select

from cloud.core.identity import Role, Scope, allowed, digest
from cloud.errors import ForbiddenError, UnauthorisedError
from cloud.ports import BrokerControl, Objects, Store
from cloud.service.artefacts import Artefacts
from cloud.service.effects import Effects
from cloud.service.imports import Imports
from cloud.service.outbox import Outbox
from cloud.service.trust.service import Trust
from cloud.tables import api_keys
from wire.ports import Clock, Ids, Link
from wire.topics import Topics

T = TypeVar("T")
_bearer = HTTPBearer(auto_error=False, description="an API key of the hub (flk_...)")


@dataclass(frozen=True, slots=True)
class FleetIdentity:
    """What a claim file says of the fleet itself."""

    enrol_username: str
    enrol_password: str


@dataclass(frozen=True, slots=True)
class Context:
    """The hub as the API sees it."""

    store: Store
    objects: Objects
    outbox: Outbox
    control: BrokerControl
    link: Link
    clock: Clock
    ids: Ids
    topics: Topics
    fleet: FleetIdentity
    trust: Trust
    artefacts: Artefacts
    imports: Imports

    async def change(self, call: Callable[[Connection, int], Effects]) -> None:
        """Commit `call(connection, now)` and have its effects performed."""
        now_ns = self.clock.now_ns()
        await self.outbox.change(lambda conn: call(conn, now_ns))

    async def read(self, call: Callable[[Connection], T]) -> T:
        """Read from one snapshot."""
        return await self.store.read(call)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks."""

    name: str
    role: Role


def context(request: Request) -> Context:
    """The context that bootstrap put into the app."""
    return cast(Context, request.app.state.context)


Hub = Annotated[Context, Depends(context)]
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def _requires(scope: Scope) -> Callable[..., Awaitable[Actor]]:
    async def check(hub: Hub, credentials: Credentials) -> Actor:
        if credentials is None:
            raise UnauthorisedError("no API key: send it as 'Authorization: Bearer flk_...'")
        sha256 = digest(credentials.credentials)
        row: Any = await hub.read(
            lambda conn: conn.execute(select(api_keys).where(api_keys.c.sha256 == sha256)).one_or_none()
        )
        if row is None:
            raise UnauthorisedError("this API key is not known")
        if not allowed(Role(row.role), scope):
            raise ForbiddenError(f"key {row.name!r} has role {row.role!r}, which may not {scope}")
        return Actor(row.name, Role(row.role))

    return check


Viewer = Annotated[Actor, Depends(_requires(Scope.VIEW))]
Operator = Annotated[Actor, Depends(_requires(Scope.OPERATE))]
Publisher = Annotated[Actor, Depends(_requires(Scope.PUBLISH))]
Administrator = Annotated[Actor, Depends(_requires(Scope.ADMINISTER))]
