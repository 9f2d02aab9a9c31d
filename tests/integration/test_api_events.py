"""Server-sent events over a real server: states as they change, changes in order, and coming back to either."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from httpx_sse import ServerSentEvent, aconnect_sse

from cloud.api.limits import MAX_STREAMS
from cloud.core.identity import digest
from cloud.service import enrolment, keys
from cloud.service.enrolment import NewClaim
from tests.servers.live_server import serving
from tests.worlds.api_world import ROLES, app_of
from tests.worlds.hub_world import World, add_key

PATIENCE_S = 20.0


class Listener:
    """Streams of one real server on a world."""

    def __init__(self, world: World, http: httpx.AsyncClient) -> None:
        self.world, self.http = world, http

    @asynccontextmanager
    async def stream(
        self, path: str, last: str = "", role: str = "viewer"
    ) -> AsyncIterator[AsyncIterator[ServerSentEvent]]:
        """An open stream."""
        headers = {"Authorization": f"Bearer flk_{role}"} | ({"Last-Event-ID": last} if last else {})
        async with aconnect_sse(self.http, "GET", f"/api/v1{path}", headers=headers) as source:
            source.response.raise_for_status()
            yield source.aiter_sse()

    async def claim(self, name: str) -> None:
        """Something changes."""
        new = NewClaim(name, {}, False, f"token-{name}")
        await self.world.store.write(lambda conn: enrolment.claim(conn, new, "test", self.world.clock.now_ns()))


async def soon(event: Coroutine[Any, Any, ServerSentEvent]) -> ServerSentEvent:
    """The next event, or a failure."""
    async with asyncio.timeout(PATIENCE_S):
        return await event


def listening(tmp_path: Path, scenario: Callable[[Listener], Coroutine[Any, Any, None]], look_s: float = 0.02) -> None:
    """Run a scenario against a real server that looks every `look_s`."""

    async def quick(ns: int) -> None:
        await asyncio.sleep(look_s)

    async def run() -> None:
        async with World(tmp_path) as world:
            world.clock.sleep = quick  # type: ignore[method-assign]
            for role in ROLES:
                await add_key(world, f"flk_{role}", role)
            with serving(app_of(world)) as url:
                async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as http:
                    await scenario(Listener(world, http))

    asyncio.run(run())


def test_a_device_is_told_when_it_changes_and_not_when_it_does_not(tmp_path: Path) -> None:
    """First as it is; who comes back with what he has seen gets only what is new."""

    async def scenario(on: Listener) -> None:
        await on.world.enrol("p01")
        async with on.stream("/devices/p01/events") as events:
            first = await soon(anext(events))
            assert (first.event, json.loads(first.data)["online"]) == ("device", False)
            await on.world.online("p01")
            second = await soon(anext(events))
            assert json.loads(second.data)["online"] is True
        async with on.stream("/devices/p01/events", last=second.id) as events:
            await on.world.online("p01", online=False, boot=2)
            assert json.loads((await soon(anext(events))).data)["online"] is False

    listening(tmp_path, scenario)


def test_changes_come_once_and_in_order_however_often_one_leaves(tmp_path: Path) -> None:
    """`Last-Event-ID` goes on after the last change seen."""

    async def scenario(on: Listener) -> None:
        seen: list[tuple[str, str]] = []
        last = "0"
        for number in range(4):
            await on.claim(f"p0{number}")
            async with on.stream("/events", last=last) as events:
                while ("device.claim", f"p0{number}") not in seen:
                    event = await soon(anext(events))
                    seen.append((event.event, json.loads(event.data)["subject"]))
                    assert int(event.id) > int(last)
                    last = event.id
        claims = [subject for action, subject in seen if action == "device.claim"]
        assert claims == ["p00", "p01", "p02", "p03"]

    listening(tmp_path, scenario)


def test_a_stream_ends_with_its_key(tmp_path: Path) -> None:
    """A revoked key hears nothing more."""

    async def scenario(on: Listener) -> None:
        await on.world.enrol("p01")
        async with on.stream("/devices/p01/events") as events:
            await soon(anext(events))
            await on.world.store.write(lambda conn: keys.revoke(conn, digest("flk_viewer")[:16], "test", 1))
            async with asyncio.timeout(PATIENCE_S):
                assert [event async for event in events] == []

    listening(tmp_path, scenario)


def test_what_cannot_be_streamed_is_refused_before_it_begins(tmp_path: Path) -> None:
    """404, 403 and 422 as anywhere; a key holds so many streams and no more, until one is closed."""

    async def scenario(on: Listener) -> None:
        await on.world.enrol("p01")
        for path, last, status in (
            ("/devices/nobody/events", "", 404),
            ("/rollouts/nothing/events", "", 404),
            ("/events", "word", 422),
        ):
            headers = {"Authorization": "Bearer flk_viewer"} | ({"Last-Event-ID": last} if last else {})
            answer = await on.http.get(f"/api/v1{path}", headers=headers)
            assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")

    listening(tmp_path, scenario)


def test_a_key_holds_so_many_streams_and_no_more(tmp_path: Path) -> None:
    """429; other keys are not concerned, and a stream that is closed makes room."""

    async def scenario(on: Listener) -> None:
        await on.world.enrol("p01")
        async with AsyncExitStack() as open_ones:
            held = [await open_ones.enter_async_context(on.stream("/devices/p01/events")) for _ in range(MAX_STREAMS)]
            for events in held:
                await soon(anext(events))
            more = await on.http.get("/api/v1/devices/p01/events", headers={"Authorization": "Bearer flk_viewer"})
            assert more.status_code == 429
            async with on.stream("/devices/p01/events", role="operator") as events:
                await soon(anext(events))
        async with on.stream("/devices/p01/events") as events:
            await soon(anext(events))

    listening(tmp_path, scenario, look_s=5.0)
