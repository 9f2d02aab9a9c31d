"""What every route needs: the hub's ports, the one way to make a change, and the caller.

`Viewer`, `Operator`, `Publisher` and `Administrator` are what a route asks for. They refuse keys that reach only a part
of the fleet; a route that keeps to `actor.reach` asks for the `Scoped...` form instead.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, NoReturn, TypeVar, cast

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Connection

from cloud.api.calls import Call, ReplayError, once_of
from cloud.api.etags import Seen
from cloud.api.limits import Limits
from cloud.core.identity import KeyState, Role, Scope, allowed, digest, key_state
from cloud.core.reach import EVERYTHING, Reach
from cloud.errors import ForbiddenError, UnauthorisedError
from cloud.ports import BrokerControl, Objects, Store
from cloud.service import audit, idempotency, keys
from cloud.service.artefacts import Artefacts
from cloud.service.effects import Effects
from cloud.service.imports import Imports
from cloud.service.keys import KeysInUse, KnownKeys
from cloud.service.outbox import Outbox
from cloud.service.repeating import Failures
from cloud.service.trust.service import Trust
from wire.ports import Clock, Ids, Link
from wire.topics import Topics

log = logging.getLogger(__name__)
T = TypeVar("T")
_bearer = HTTPBearer(auto_error=False, description="an API key of the hub (flk_...)")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


@dataclass(frozen=True, slots=True)
class FleetIdentity:
    """What a claim file says of the fleet itself."""

    enrol_username: str
    enrol_password: str


@dataclass(frozen=True, slots=True)
class Context:
    """The hub as the API sees it. Each request has its own, with its `call`."""

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
    limits: Limits = field(default_factory=Limits)
    keys_in_use: KeysInUse = field(default_factory=KeysInUse)
    known_keys: KnownKeys = field(default_factory=KnownKeys)
    failures: Failures = field(default_factory=Failures)
    call: Call = field(default_factory=Call)
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the hub ends: what would go on for ever ends, too."""

    async def change(
        self, call: Callable[[Connection, int], Effects], *, seen: Seen | None = None, shown_once: bool = False
    ) -> None:
        """Commit `call(connection, now)` and have its effects performed: the one way in which a route changes anything.

        `seen`: what it changes has to be, still; `shown_once`: the answer holds a secret. Raises PreconditionError.
        """
        now_ns = self.clock.now_ns()

        def commit(conn: Connection) -> Effects:
            audit.on_behalf_of(conn, self.call.id)
            self.call.carry_out(conn, now_ns, secret=shown_once)
            if seen is not None:
                seen.check(conn)
            return call(conn, now_ns)

        try:
            await self.outbox.change(commit)
        finally:
            self.known_keys.forget()  # whoever is told that a key is revoked can rely on it
        self.call.carried_out(secret=shown_once)

    async def pause(self, ns: int) -> bool:
        """Wait so long. False: the hub ends, and this was cut short."""
        ways = [asyncio.ensure_future(self.clock.sleep(ns)), asyncio.ensure_future(self.closing.wait())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
        return not self.closing.is_set()

    async def read(self, call: Callable[[Connection], T]) -> T:
        """Read from one snapshot."""
        return await self.store.read(call)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks."""

    name: str
    role: Role
    key: str
    """Id of the key."""
    reach: Reach = EVERYTHING


async def context(request: Request) -> Context:
    """The context that bootstrap put into the app, for this request."""
    return replace(cast(Context, request.app.state.context), call=cast(Call, request.state.call))


Hub = Annotated[Context, Depends(context)]


async def identify(request: Request, hub: Hub, credentials: Credentials) -> Actor:
    """The holder of the key that came with the request. Raises UnauthorisedError, TooManyError, ReplayError."""
    if credentials is None:
        raise UnauthorisedError("no API key: send it as 'Authorization: Bearer flk_...'")
    row = await usable_key(hub, request.client.host if request.client else "", digest(credentials.credentials))
    hub.limits.count(row.id, row.requests_per_s, hub.clock.now_ns())
    return Actor(row.name, Role(row.role), row.id, keys.reach_of(row))


async def usable_key(hub: Context, address: str, sha256: str) -> Any:
    """The row of the key with this digest, shown from `address`. Raises UnauthorisedError, TooManyError."""
    now_ns = hub.clock.now_ns()
    hub.limits.hear(address, sha256, now_ns)
    row = await hub.known_keys.find(hub.store, sha256, now_ns)
    state = None if row is None else key_state(row.expires_ns, row.revoked_ns, now_ns)
    if row is None or state is not KeyState.USABLE:
        hub.limits.bad(address, sha256, now_ns)
        _refuse(address, None if row is None else row.name, state)
    hub.limits.good(address, sha256)
    hub.keys_in_use.note(sha256, now_ns)
    return row


def _refuse(address: str, name: str | None, state: KeyState | None) -> NoReturn:
    log.warning("refused an API key from %s: %s", address, "not known" if name is None else f"{name!r} is {state}")
    if name is None:
        raise UnauthorisedError("this API key is not known")
    what = "has expired" if state is KeyState.EXPIRED else "was revoked"
    raise UnauthorisedError(f"API key {name!r} {what}: ask an administrator for another one")


async def _first_time(request: Request, hub: Context, actor: Actor) -> None:
    """Raises ReplayError when this request was made before."""
    once = await once_of(request, actor.key)
    if once is None:
        return
    now_ns = hub.clock.now_ns()
    answer = await hub.read(lambda conn: idempotency.look(conn, once, now_ns))
    if answer is not None:
        raise ReplayError(answer)
    hub.call.once = once


def _requires(scope: Scope, *, bounded: bool = False) -> Callable[..., Awaitable[Actor]]:
    async def check(request: Request, hub: Hub, actor: Annotated[Actor, Depends(identify)]) -> Actor:
        if not allowed(actor.role, scope):
            raise ForbiddenError(f"key {actor.name!r} has role {actor.role.value!r}, which may not {scope}")
        if actor.reach.bounded and not bounded:
            raise ForbiddenError(f"key {actor.name!r} reaches only a part of the fleet, and this concerns all of it")
        await _first_time(request, hub, actor)
        return actor

    return check


Viewer = Annotated[Actor, Depends(_requires(Scope.VIEW))]
Operator = Annotated[Actor, Depends(_requires(Scope.OPERATE))]
Publisher = Annotated[Actor, Depends(_requires(Scope.PUBLISH))]
Administrator = Annotated[Actor, Depends(_requires(Scope.ADMINISTER))]
ScopedViewer = Annotated[Actor, Depends(_requires(Scope.VIEW, bounded=True))]
ScopedOperator = Annotated[Actor, Depends(_requires(Scope.OPERATE, bounded=True))]
ScopedPublisher = Annotated[Actor, Depends(_requires(Scope.PUBLISH, bounded=True))]
