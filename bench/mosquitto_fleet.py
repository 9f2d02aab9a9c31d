"""A fleet for proofs on a real broker: the hub as it ships with mosquitto, agents' real services, and lean devices.

All of it lives in one process but the broker. Devices enrol and log in with certificates of their own (mutual TLS). An
agent has its disk and its models in memory; a lean device says no more than that it is there.
"""

import asyncio
import contextlib
import os
import random
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, func, select

from cloud.api.context import Context
from cloud.bootstrap import started
from cloud.core.rollout import RolloutState
from cloud.service import registry
from cloud.service.registry import Built, Numbers
from cloud.settings import Settings
from cloud.tables import ENROLLED, devices, rollouts
from edge_agent.adapters.broker_access import BrokerAccess, credentials
from edge_agent.adapters.dsse_trust import DsseTrust
from edge_agent.adapters.p256_keys import P256Keys
from edge_agent.bootstrap import assemble, open_desk
from edge_agent.errors import NoModelError
from edge_agent.ports import CanaryRequest, CanaryVerdict, Ports
from edge_agent.service.agent import offline_status
from edge_agent.service.courier import Uplink
from edge_agent.service.enrolment import Enrolment
from edge_agent.service.inference import Inference
from edge_agent.service.membership import Member
from edge_agent.service.tasks import Tasks
from simulator.core.rng import Rng
from simulator.fakes.device import FixedMachine, MemoryCaptures
from simulator.fakes.offload import InlineOffload
from simulator.fakes.runtime import LightRuntime, MemoryInstaller
from simulator.memory_disk import MemoryDisk
from simulator.version import Files, build, random_files
from wire.adapters.keys import SigningKey
from wire.adapters.mqtt_link import Credentials, MqttLink, Will
from wire.adapters.system import SystemClock, SystemIds
from wire.codec import decode, encode
from wire.dsse import RELEASE_TYPE, seal
from wire.identity import ClaimFile, EnrolReply, EnrolRequest
from wire.messages import Status
from wire.ports import Inbound, LinkError
from wire.release import object_ref
from wire.topics import Topics

MODEL = "proof"
LOOK_EVERY_S = 0.05
TELEMETRY_INTERVAL_S = 0.5
ENROL_TIMEOUT_S = 60.0
AT_ONCE = 200


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
    publisher: SigningKey
    broker_kills: int = 0

    async def api(self, method: str, path: str, body: Any = None) -> Any:
        """Call the API as the administrator."""
        answer = await self.http.request(method, f"/api/v1{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    async def claims(self, prefix: str, count: int) -> list[ClaimFile]:
        """Claim files for new devices."""
        answer = await self.http.post("/api/v1/claims/batch", json={"prefix": prefix, "count": count})
        answer.raise_for_status()
        return [decode(line.encode(), ClaimFile) for line in answer.text.splitlines()]

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
        envelope = seal(encode(built.release), RELEASE_TYPE, self.publisher.signers())
        await hub.objects.put(envelope)
        ref = object_ref(envelope)
        await hub.store.write(lambda conn: registry.accept(conn, built.request, ref, "publisher", now_ns))
        return built.release.version

    async def roll_out(self, version: int, selector: dict[str, str]) -> str:
        """Start a rollout; its id."""
        body = {
            "model": MODEL,
            "version": version,
            "selector": selector,
            "waves": [{"count": 1}, {"percent": 50}, {"percent": 100}],
            "health_window_s": 0.5,
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
async def real_hub(directory: Path, ports: Sequence[int]) -> AsyncIterator[RealHub]:
    """A hub with mosquitto on the two `ports`, at work."""
    publisher = SigningKey(Ed25519PrivateKey.generate())
    key_file = directory / "publisher.pub"
    key_file.write_text(publisher.public_hex)
    settings = Settings(
        data_dir=str(directory / "hub"),
        broker="mosquitto",
        broker_port=ports[0],
        broker_enrol_port=ports[1],
        publisher_key_files=(str(key_file),),
    )
    async with started(settings) as running:
        working = asyncio.create_task(running.hub.run())
        key = (directory / "hub" / "admin.key").read_text().strip()
        transport = httpx.ASGITransport(app=running.app)
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://hub", headers=headers) as http:
            hub = RealHub(running.app.state.context, http, publisher)
            await until("the hub reaches its broker", lambda: hub.context.link.connected, 20)
            try:
                yield hub
            finally:
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)


class CountingInstaller(MemoryInstaller):
    """Counts how often each model was tried."""

    def __init__(self, disk: MemoryDisk, clock: SystemClock) -> None:
        super().__init__(disk, clock)
        self.tried: Counter[str] = Counter()

    async def canary(self, request: CanaryRequest) -> CanaryVerdict:
        """Count, then try."""
        self.tried[request.model] += 1
        return await super().canary(request)


@dataclass
class RealDevice:
    """An agent's services on a disk in memory, over a real link."""

    claim: ClaimFile
    predictions: int = 0
    installer: CountingInstaller = field(init=False)
    inference: Inference = field(init=False)
    application: asyncio.Task[None] = field(init=False)
    resting: bool = False

    @contextlib.asynccontextmanager
    async def working(self, on_crash: Callable[[BaseException], None]) -> AsyncIterator[None]:
        """Enrolled and at work, its application included."""
        disk, clock, ids = MemoryDisk(), SystemClock(), SystemIds()
        enrolment = Enrolment(disk, P256Keys(), ids, ENROL_TIMEOUT_S)
        identity = await enrolment.enrol_first(self.claim, open_desk(self.claim))
        topics = Topics(self.claim.topic_root)
        link = MqttLink(
            self.claim.broker,
            credentials(identity),
            will=Will(topics.up(identity.username, "status"), offline_status()),
        )
        self.installer = CountingInstaller(disk, clock)
        trust = DsseTrust(identity.username, self.claim.director_keys, self.claim.publisher_keys)
        captures, runtime = MemoryCaptures(), LightRuntime(disk, clock)
        ports = Ports(link, clock, ids, disk, trust, self.installer, runtime, captures, FixedMachine())
        uplink = Uplink(identity.username, topics, link, clock, Tasks(on_crash))
        member = Member(self.claim, identity, P256Keys(), BrokerAccess(link), open_desk)
        agent, api = assemble(ports, uplink, str, InlineOffload(), TELEMETRY_INTERVAL_S, member)
        self.inference = api.inference
        await agent.start()
        self.application = asyncio.create_task(self._apply())
        try:
            yield
        finally:
            await self.rest()
            await agent.stop()

    async def rest(self) -> None:
        """The application predicts no more."""
        self.resting = True
        await self.application

    async def _apply(self) -> None:
        window = np.zeros(8, dtype=np.float32)
        while not self.resting:
            with contextlib.suppress(NoModelError):
                await self.inference.predict(window)
                self.predictions += 1
            await asyncio.sleep(0.1)


class LeanDevice:
    """A device that connects and says that it is there, as often as it has to."""

    def __init__(self, claim: ClaimFile, login: Credentials) -> None:
        self.name = claim.device
        self.login = login
        self.claim = claim
        self.ups: list[float] = []
        """When it was connected."""
        self.boot = 1
        self._topic = Topics(claim.topic_root).up(self.name, "status")
        self._speaking: asyncio.Task[None] | None = None
        self.link = self.new_link()

    def new_link(self) -> MqttLink:
        """As after a restart."""
        link = MqttLink(self.claim.broker, self.login, will=Will(self._topic, offline_status()))
        link.on_up = self._up
        return link

    async def say(self, link: MqttLink | None = None) -> None:
        """Here I am."""
        status = Status(online=True, boot=self.boot, session=f"{self.name}-{self.boot}")
        with contextlib.suppress(LinkError):
            await (link or self.link).publish(self._topic, encode(status), retain=True)

    def _up(self) -> None:
        self.ups.append(asyncio.get_running_loop().time())
        self._speaking = asyncio.create_task(self.say())


async def lean_devices(claims: Sequence[ClaimFile]) -> list[LeanDevice]:
    """Enrolled one after the other over a single connection to the enrolment listener; not connected yet."""
    first, client = claims[0], f"enrol-{random.randbytes(8).hex()}"
    assert first.enrol is not None
    topics = Topics(first.topic_root)
    desk = MqttLink(first.enrol, Credentials(first.enrol_username, first.enrol_password, client))
    replies: asyncio.Queue[EnrolReply] = asyncio.Queue()

    def take(message: Inbound) -> None:
        message.ack()
        replies.put_nowait(decode(message.payload, EnrolReply))

    desk.on_message = take
    await desk.subscribe(topics.enrol("dn", client))
    await desk.start()
    await until("the enrolment listener answers", lambda: desk.connected, 20)
    made = {claim.device: P256Keys().make(claim.device) for claim in claims}
    found = {}
    for start in range(0, len(claims), AT_ONCE):
        part = claims[start : start + AT_ONCE]
        for claim in part:
            request = EnrolRequest(token=claim.token, csr=made[claim.device].csr)
            await desk.publish(topics.enrol("up", client), encode(request))
        for _ in part:
            reply = await asyncio.wait_for(replies.get(), ENROL_TIMEOUT_S)
            found[reply.username] = reply.certificate
    await desk.stop()
    logins = (Credentials(one.device, certificate=found[one.device], key=made[one.device].key) for one in claims)
    return [LeanDevice(claim, login) for claim, login in zip(claims, logins, strict=True)]
