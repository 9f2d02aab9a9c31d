"""A hub for tests: real SQLite, real objects, real services; link, broker and jobs are `tests.worlds.hub_fakes`."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, func, insert, select

from cloud.adapters.fsspec_objects import FsspecObjects
from cloud.adapters.inspection_child import InspectionChild
from cloud.adapters.postgres_store import PostgresStore
from cloud.adapters.sql_store import SqlStore
from cloud.adapters.tuf_notary import TufNotary
from cloud.adapters.upload_files import UploadFiles
from cloud.core.identity import digest
from cloud.service import enrolment, ingest, registry, rollouts
from cloud.service.artefacts import Artefacts
from cloud.service.effects import NOTHING, Effects
from cloud.service.enrolment import Door, NewClaim
from cloud.service.imports import Imports
from cloud.service.ingest import Received
from cloud.service.jobs import Jobs
from cloud.service.optimize_jobs import OptimizeJobs
from cloud.service.outbox import Outbox
from cloud.service.repeating import Failures
from cloud.service.rollouts import Means
from cloud.service.trust import deliveries
from cloud.service.trust.service import Trust
from cloud.tables import api_keys, desired, jobs
from simulator.publisher import SimulatedPublisher
from tests.samples.job_output import optimizer_output
from tests.servers.fresh_database import lay_out
from tests.worlds.hub_fakes import FakeClock, FakeControl, FakeLauncher, FakeLink
from wire.adapters.keys import load_or_create, verifiers
from wire.adapters.system import SystemIds, ThreadOffload
from wire.assignment import Assignment, assignment_digest
from wire.codec import decode, encode
from wire.dsse import ASSIGNMENT_TYPE, unseal
from wire.identity import EnrolReply, EnrolRequest
from wire.messages import Capabilities, GoldenResult, Installed, Outcome, Phase, Reported, SlotReport, Status
from wire.ports import Inbound
from wire.release import Release
from wire.topics import Topics

ROOT = Topics()
MODEL = "watch"
KEYS = ("director", "online", "publisher", "root 1", "root 2", "root 3")


class World:
    """One hub, and short words for what happens to it."""

    def __init__(self, directory: Path, *, rooted: bool = True, database: str = "") -> None:
        self.directory = directory
        self.rooted = rooted
        self.clock, self.ids = FakeClock(), SystemIds()
        self.link, self.control, self.launcher = FakeLink(), FakeControl(), FakeLauncher()
        self.store = PostgresStore(database) if database else SqlStore(directory / "hub.sqlite")
        self.offload = ThreadOffload()
        self.objects = FsspecObjects(str(directory / "objects"), self.offload)
        self.keys = {name: load_or_create(directory / f"{name}.key") for name in KEYS}
        self.director = self.keys["director"]
        self.notary = TufNotary(lambda: [self.keys["online"]], lambda: [self.keys["director"]])
        staging = UploadFiles(directory / "uploads", self.offload)
        self.artefacts = Artefacts(self.store, self.objects, staging, InspectionChild())
        self.imports = Imports(self.store, self.objects, self.ids)
        self.trust = Trust(self.store, self.notary, self.clock)
        hub = (self.keys["online"].public_hex, self.director.public_hex)
        self.publisher = SimulatedPublisher(self.keys, *hub, self.clock.now_ns)
        self.outbox = Outbox(self.store, self.link, self.control, ROOT, self.clock)
        self.door = Door(ROOT)
        self.failures = Failures()
        self.last = NOTHING
        self.seqs: dict[str, int] = {}

    async def __aenter__(self) -> "World":
        if isinstance(self.store, SqlStore):
            await lay_out(self.directory / "hub.sqlite")
        await self.store.open()
        if self.rooted:
            await self.store.write(self.found)
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.store.close()
        self.offload.close()

    def found(self, conn: Connection) -> None:
        """The hub gets its root, and what the publisher signs under it."""
        deliveries.adopt_root(conn, self.notary, self.publisher.root, "test", self.clock.now_ns())
        deliveries.deliver(conn, self.notary, self.publisher.documents(), "test", self.clock.now_ns())

    def seal(self, payload: bytes) -> bytes:
        """The director's signature."""
        return self.trust.seal(payload)

    async def change(self, call: Any) -> Effects:
        """Commit; the effects are returned, not performed."""
        self.last = await self.store.write(lambda conn: call(conn, self.clock.now_ns()))
        return self.last

    async def receive(self, *messages: tuple[str, bytes]) -> Effects:
        """What devices sent, as one batch."""
        batch = [Received(topic, payload) for topic, payload in messages]
        return await self.change(lambda conn, now_ns: ingest.apply(conn, batch, now_ns, self.door))

    async def enrol(self, name: str, *, federated: bool = False, **labels: str) -> None:
        """Claim and enrol a device."""
        token = f"token-of-{name}-{'x' * 20}"
        new = NewClaim(name, labels, federated, token)
        await self.store.write(lambda conn: enrolment.claim(conn, new, "test", self.clock.now_ns()))
        assert (await self.request(name, token)).ok

    async def request(self, client: str, token: str, verifier: str = "c" * 64) -> EnrolReply:
        """An enrolment request and its answer."""
        payload = encode(EnrolRequest(token=token, verifier=verifier))
        effects = await self.receive((ROOT.enrol("up", client), payload))
        assert effects.publishes[0].topic == ROOT.enrol("dn", client)
        return decode(effects.publishes[0].payload, EnrolReply)

    async def train(self) -> None:
        """A training job runs and its result is entered."""
        self.launcher.files = {"optimize.job": optimizer_output()}
        kind = OptimizeJobs(self.store, self.objects, self.launcher, self.clock, self.ids)
        runner = Jobs(self.store, self.outbox, self.launcher, self.clock, {"train": kind, "derive": kind})
        await run_until_idle(self, runner)

    async def sign(self, request: str, files: Mapping[str, bytes] | None = None) -> None:
        """The publisher lists the release (or hands in these files) and the hub takes it."""
        row = await self.store.read(lambda conn: registry.request_row(conn, request))
        signed = self.publisher.sign(decode(row.payload, Release)) if files is None else files
        await self.objects.put(row.payload)
        notary = self.notary
        await self.change(lambda conn, now_ns: registry.accept(conn, notary, request, signed, "publisher", now_ns))

    async def tick(self) -> Effects:
        """Let the rollouts advance."""
        means = Means(self.seal, self.ids, ROOT, self.clock.now_ns())
        return await self.change(lambda conn, now_ns: rollouts.tick(conn, means))

    async def desired(self, device: str) -> Assignment:
        """What the hub wants of a device, verified as the device would."""
        envelope = await self.store.read(
            lambda conn: conn.execute(select(desired.c.envelope).where(desired.c.device == device)).scalar_one()
        )
        payload = unseal(envelope, ASSIGNMENT_TYPE, verifiers([self.director.public_hex]), limit=16384)
        return decode(payload, Assignment)

    async def report(self, device: str, outcome: Outcome | None = Outcome.SUCCEEDED, **changes: Any) -> Effects:
        """The device reports how its newest assignment went."""
        wanted = await self.desired(device)
        slot = wanted.slots[0]
        self.seqs[device] = changes.pop("seq", self.seqs.get(device, 0) + 1)
        installed = Installed(model=slot.model, version=slot.version, variant=slot.variant, sha256=slot.sha256)
        succeeded = outcome is Outcome.SUCCEEDED
        fields = {
            "slot": slot.slot,
            "phase": Phase.COMMITTED if succeeded else Phase.FAILED,
            "current": installed if succeeded else None,
            "execution": slot.execution.id,
            "outcome": outcome,
            "golden": GoldenResult(matched=32, total=32, max_error=0.0) if succeeded else None,
        }
        reported = Reported(
            seq=self.seqs[device],
            sequence=wanted.sequence,
            digest=assignment_digest(encode(wanted)),
            agent="test",
            capabilities=CAPABILITIES,
            slots=(SlotReport(**{**fields, **changes}),),
        )
        return await self.receive((ROOT.up(device, "reported"), encode(reported)))

    async def online(self, device: str, online: bool = True, boot: int = 1) -> Effects:
        """A status message."""
        return await self.receive((ROOT.up(device, "status"), encode(Status(online=online, boot=boot))))


CAPABILITIES = Capabilities(
    engines={"onnxruntime": "1.20"},
    max_opset=21,
    machine="x86_64",
    python="3.11",
    ram_bytes=1 << 30,
    disk_free_bytes=1 << 30,
)


async def run_until_idle(world: World, runner: Jobs) -> None:
    """Run queued jobs until none is queued, running or to be stopped."""
    open_jobs = select(func.count()).select_from(jobs).where(jobs.c.state.in_(("queued", "running", "stopping")))
    tasks = [asyncio.create_task(runner.run()), asyncio.create_task(world.outbox.run())]
    async with asyncio.timeout(20):
        while await world.store.read(lambda conn: conn.scalar(open_jobs)):
            await asyncio.sleep(0.005)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def add_key(world: World, key: str, role: str) -> None:
    """An API key."""
    row = {"sha256": digest(key), "name": role, "role": role, "created_ns": 1}
    await world.store.write(lambda conn: conn.execute(insert(api_keys).values(row)))


def inbound(topic: str, payload: bytes, acked: list[str]) -> Inbound:
    """A message whose acknowledgement is noted."""
    return Inbound(topic, payload, False, lambda: acked.append(topic))


def as_json(document: bytes) -> dict[str, Any]:
    """A document as plain values, to be changed by hand."""
    return msgspec.json.decode(document, type=dict[str, Any])
