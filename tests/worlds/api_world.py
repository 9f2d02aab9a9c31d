"""The hub's app over a fresh `tests.worlds.hub_world.World`, and a client with one key per role."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from cloud.api import problems, routes
from cloud.api.context import Context, FleetIdentity
from cloud.api.limits import Limits
from tests.worlds.hub_world import ROOT, World, add_key

ROLES = ("viewer", "operator", "publisher", "admin")


class Api:
    """A client with one key per role."""

    def __init__(self, world: World, http: httpx.AsyncClient, limits: Limits | None = None) -> None:
        self.world = world
        self.http = http
        self.limits = limits or Limits()
        """Those of the app."""

    async def __call__(self, role: str, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        """Call as `role`; the answer must have `status`."""
        headers = {"Authorization": f"Bearer flk_{role}"} if role else {}
        answer = await self.http.request(method, f"/api/v1{path}", json=body, headers=headers)
        assert answer.status_code == status, answer.text
        if status >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            return answer.json()["detail"]
        return answer.json()

    async def claim(self, device: str) -> dict[str, Any]:
        """A claim file for the device."""
        claim: dict[str, Any] = await self("operator", "POST", "/claims", {"device": device}, 201)
        return claim


def context_of(world: World, limits: Limits | None = None) -> Context:
    """What the routes work with on this world."""
    return Context(
        world.store,
        world.objects,
        world.outbox,
        world.control,
        world.link,
        world.clock,
        world.ids,
        ROOT,
        FleetIdentity("enrol", "enrol-password"),
        world.trust,
        world.artefacts,
        world.imports,
        limits or Limits(),
        failures=world.failures,
    )


def app_of(world: World, limits: Limits | None = None) -> FastAPI:
    """The hub's app on this world."""
    app = FastAPI(title="Fleetloop hub", version="1")
    app.state.context = context_of(world, limits)
    problems.install(app)
    routes.install(app)
    return app


_app: list[FastAPI] = []


def _one_app(world: World, limits: Limits) -> FastAPI:
    """The same app for one world after the other: FastAPI takes a fifth of a second to find its way in a new one."""
    if not _app:
        _app.append(app_of(world))
    _app[0].state.context = context_of(world, limits)
    return _app[0]


def api(
    tmp_path: Path,
    scenario: Callable[[Api], Coroutine[Any, Any, None]],
    *,
    rooted: bool = True,
    database: str = "",
) -> None:
    """Run a scenario against the app of a fresh hub. `database`: a PostgreSQL URL, or SQLite."""

    async def run() -> None:
        async with World(tmp_path, rooted=rooted, database=database) as world:
            for role in ROLES:
                await add_key(world, f"flk_{role}", role)
            limits = Limits()
            transport = httpx.ASGITransport(app=_one_app(world, limits), raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://hub") as http:
                await scenario(Api(world, http, limits))

    asyncio.run(run())
