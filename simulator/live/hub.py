"""A hub in this process for live devices: that of `fleetloop hub`, and the operator and publisher who use it."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, func, select

from cloud.api.context import Context
from cloud.api.schemas.claims import MAX_CLAIMS
from cloud.bootstrap import OpenBroker, started
from cloud.core.rollout import RolloutState
from cloud.service import registry
from cloud.service.registry import Built, Numbers
from cloud.service.trust import deliveries
from cloud.settings import Settings
from cloud.tables import ENROLLED, devices, rollouts
from simulator.core.rng import Rng
from simulator.publisher import SimulatedPublisher
from simulator.version import Files, build, random_files
from wire.adapters.keys import SigningKey
from wire.codec import decode, encode
from wire.identity import ClaimFile
from wire.ports import Inbound

MODEL = "proof"
LOOK_EVERY_S = 0.05


class OverdueError(Exception):
    """Something that has to happen did not, within the time it was given."""


async def until(what: str, done: Callable[[], Any], limit_s: float) -> None:
    """Look again and again, at a value or at an awaitable of one. Raises OverdueError."""
    deadline = asyncio.get_running_loop().time() + limit_s
    while True:
        seen = done()
        if await seen if asyncio.iscoroutine(seen) else seen:
            return
        if asyncio.get_running_loop().time() > deadline:
            raise OverdueError(f"{what}: not within {limit_s:g} s")
        await asyncio.sleep(LOOK_EVERY_S)


def free_port() -> int:
    """A port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@dataclass
class RealHub:
    """The hub of `fleetloop hub`, and the operator and publisher who use it."""

    context: Context
    http: httpx.AsyncClient
    publisher: SimulatedPublisher
    broker_kills: int = 0

    async def api(self, method: str, path: str, body: Any = None) -> Any:
        """Call the API as the administrator."""
        answer = await self.http.request(method, f"/api/v1{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    async def claims(self, prefix: str, count: int) -> list[ClaimFile]:
        """Claim files for new devices, as many in a call as the API permits."""
        claims: list[ClaimFile] = []
        while len(claims) < count:
            body = {"prefix": prefix, "count": min(count - len(claims), MAX_CLAIMS), "first": len(claims) + 1}
            answer = await self.http.post("/api/v1/claims/batch", json=body)
            answer.raise_for_status()
            claims += [decode(line.encode(), ClaimFile) for line in answer.text.splitlines()]
        return claims

    async def publish_version(self, number: int, model_bytes: int) -> int:
        """Enter the next version, of random bytes, and have the publisher sign it; its number."""
        files = random_files(Rng(number), model_bytes)
        return await self.enter(files, lambda numbers, request: build(MODEL, numbers, files, request))

    async def enter(self, files: Files, make: Callable[[Numbers, str], Built]) -> int:
        """Enter what `make` builds of its numbers and the id of its signing request; the version's number."""
        hub = self.context
        now_ns = hub.clock.now_ns()
        await hub.store.write(lambda conn: registry.add_model(conn, MODEL, "proof", now_ns))
        built = make(await hub.read(lambda conn: registry.next_numbers(conn, MODEL)), hub.ids.new())
        for data in (*files.all(), encode(built.card)):
            await hub.objects.put(data)
        await hub.store.write(lambda conn: registry.enter(conn, built, now_ns))
        await hub.objects.put(encode(built.release))
        signed, notary = self.publisher.sign(built.release), hub.trust.notary
        await hub.store.write(lambda conn: registry.accept(conn, notary, built.request, signed, "publisher", now_ns))
        return built.release.version

    async def roll_out(self, version: int, selector: dict[str, str], **others: Any) -> str:
        """Start a rollout, with `others` of what the API takes; its id."""
        body = {
            "model": MODEL,
            "version": version,
            "selector": selector,
            "waves": [{"count": 1}, {"percent": 50}, {"percent": 100}],
            "health_window_s": 0.5,
            **others,
        }
        rollout: str = (await self.api("POST", "/rollouts", body))["id"]
        return rollout

    async def settled(self, rollout: str) -> bool:
        """Is this rollout over?"""
        query = select(rollouts.c.state).where(rollouts.c.id == rollout)
        state = await self.context.read(lambda conn: conn.scalar(query))
        return state in (RolloutState.SUCCEEDED, RolloutState.HALTED, RolloutState.ABORTED)

    async def online(self) -> int:
        """How many devices it believes to be there."""
        query = select(func.count()).select_from(devices).where(devices.c.online, ENROLLED)
        return await self.context.read(lambda conn: conn.execute(query).scalar_one())

    async def met(self, since_ns: int) -> int:
        """How many devices are there and have said since then that nothing else is desired of them."""
        there = devices.c.online & ENROLLED & (devices.c.reported_ns >= since_ns)
        accepted = devices.c.reported_sequence >= devices.c.desired_sequence
        query = select(func.count()).select_from(devices).where(there, accepted)
        return await self.context.read(lambda conn: conn.execute(query).scalar_one())

    async def look(self, query: Callable[[Connection], Any]) -> Any:
        """What the database says."""
        return await self.context.read(query)

    def kill_broker(self) -> None:
        """SIGKILL; the hub starts it again."""
        control: Any = self.context.control
        os.kill(control.pid, signal.SIGKILL)
        self.broker_kills += 1

    def tap(self, taken: Callable[[Inbound], None]) -> None:
        """See everything that the broker lets through to the hub."""
        link: Any = self.context.link
        before = link.on_message

        def both(message: Inbound) -> None:
            taken(message)
            before(message)

        link.on_message = both


@contextlib.asynccontextmanager
async def operated(
    settings: Settings, open_broker: OpenBroker | None = None
) -> AsyncIterator[tuple[RealHub, Callable[[], Coroutine[Any, Any, None]]]]:
    """A hub with a root of trust, ready to serve its operator; and what sets it to work for its devices."""
    async with started(settings, open_broker) as running:
        key = (Path(settings.data_dir) / "admin.key").read_text().strip()
        transport = httpx.ASGITransport(app=running.app)
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://hub", headers=headers) as http:
            context = running.app.state.context
            yield RealHub(context, http, await _found(context)), running.hub.run


async def _found(hub: Context) -> SimulatedPublisher:
    """A root for this hub, and a publisher who has signed everything under it."""
    notary, now_ns = hub.trust.notary, hub.clock.now_ns()
    keys = {name: SigningKey(Ed25519PrivateKey.generate()) for name in ("publisher", "root 1", "root 2", "root 3")}
    publisher = SimulatedPublisher(keys, notary.online_keys[0], notary.director_keys[0], hub.clock.now_ns)
    await hub.store.write(lambda conn: deliveries.adopt_root(conn, notary, publisher.root, "operator", now_ns))
    signed = publisher.documents()
    await hub.store.write(lambda conn: deliveries.deliver(conn, notary, signed, "publisher", now_ns))
    return publisher
