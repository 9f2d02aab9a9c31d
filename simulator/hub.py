"""The simulated hub: the real services on a database in memory. Database, objects and keys outlive a killed hub."""

import asyncio
import hashlib
from collections.abc import Callable
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection

from cloud.core.access import ENROLMENT, HUB, Access, under
from cloud.ports import BrokerUser
from cloud.service import enrolment, registry, rollouts
from cloud.service.asks import Asks
from cloud.service.blobs import Blobs
from cloud.service.chunk_answers import ChunkAnswers
from cloud.service.deltas import Deltas
from cloud.service.enrolment import NewClaim
from cloud.service.hub import Hub, Intervals, Parts
from cloud.service.inbox import Inbox
from cloud.service.jobs import Jobs
from cloud.service.outbox import Outbox
from cloud.service.rollouts import NewRollout
from simulator.core.loop import Process
from simulator.core.network import Network, Quality
from simulator.core.rng import SeededIds
from simulator.fakes.launcher import ScriptedLauncher
from simulator.fakes.link import MemoryLink
from simulator.fakes.scheduler import VirtualScheduler
from simulator.fakes.store import InlineDeltas, MemoryObjects, MemoryStore
from simulator.version import Files, build
from simulator.world import World
from wire.adapters.keys import SigningKey, verifiers
from wire.adapters.mqtt_link import Credentials
from wire.asks import AskChunks
from wire.codec import encode
from wire.dsse import ASSIGNMENT_TYPE, RELEASE_TYPE, seal
from wire.identity import ClaimFile
from wire.ports import MILLISECOND
from wire.release import Release, object_ref
from wire.topics import DEFAULT_ROOT, Topics

T = TypeVar("T")

OPERATOR = "operator"
LOCAL_NETWORK = Quality(delay_min_ns=MILLISECOND // 5, delay_max_ns=MILLISECOND)


class SimulatedHub:
    """A hub that can be killed and started again, and the operator and publisher who use it."""

    def __init__(self, world: World) -> None:
        self.store = MemoryStore()
        self.topics = Topics(DEFAULT_ROOT)
        self._world = world
        self._objects = MemoryObjects()
        self._ids = SeededIds(world.rng.child("hub ids"))
        self._director = _key(world, "director")
        self._publisher = _key(world, "publisher")
        self._passwords = {name: self._ids.secret() for name in ("hub", "enrol")}
        self._network = Network(LOCAL_NETWORK, world.rng.child("hub network"), world.faults)
        self._process = Process("hub")
        self._outbox: Outbox | None = None
        self._running = False

    def start(self) -> None:
        """Start the services on what the database holds, unless they run."""
        if self._running:
            return
        self._running = True
        self._process = Process("hub")
        self._process.run(lambda: self._world.watch(asyncio.ensure_future(self._run())))

    def kill(self) -> None:
        """The process is gone; what was committed is not."""
        self._running = False
        self._world.loop.kill(self._process)
        self._world.broker.detach("hub")

    async def claim(self, device: str) -> ClaimFile:
        """Announce a device; its claim file."""
        token = self._ids.secret()
        new = NewClaim(device=device, labels={}, federated=False, token=token)
        now_ns = self._world.clock.now_ns()
        await self.store.write(lambda conn: enrolment.claim(conn, new, OPERATOR, now_ns))
        return ClaimFile(
            device=device,
            broker=self._world.broker.endpoint,
            topic_root=self.topics.root,
            token=token,
            enrol_username="enrol",
            enrol_password=self._passwords["enrol"],
            director_keys=(self._director.public_hex,),
            publisher_keys=(self._publisher.public_hex,),
        )

    async def publish_version(self, model: str, files: Files) -> Release:
        """Enter the next version of `model` and have the publisher sign it."""
        now_ns = self._world.clock.now_ns()
        await self.store.write(lambda conn: registry.add_model(conn, model, "simulated", now_ns))
        numbers = await self.store.read(lambda conn: registry.next_numbers(conn, model))
        built = build(model, numbers, files, self._ids.new())
        for data in (*files.all(), encode(built.card)):
            await self._objects.put(data)
        await self.store.write(lambda conn: registry.enter(conn, built, now_ns))
        envelope = seal(encode(built.release), RELEASE_TYPE, self._publisher.signers())
        row = await self.store.read(lambda conn: registry.request_row(conn, built.request))
        registry.check_signature(row, envelope, verifiers((self._publisher.public_hex,)))
        await self._objects.put(envelope)
        ref = object_ref(envelope)
        await self.store.write(lambda conn: registry.accept(conn, built.request, ref, "publisher", now_ns))
        return built.release

    async def roll_out(self, new: NewRollout) -> None:
        """Start a rollout."""
        now_ns = self._world.clock.now_ns()
        assert self._outbox is not None
        await self._outbox.change(lambda conn: rollouts.create(conn, new, OPERATOR, now_ns))

    def look(self, query: Callable[[Connection], T]) -> T:
        """What the database says now."""
        return self.store.now(query)

    async def _run(self) -> None:
        world = self._world
        link = MemoryLink(
            world.broker, world.clock, Credentials("hub", self._passwords["hub"]), network=self._network
        )  # fmt: skip
        outbox = Outbox(self.store, link, world.broker, self.topics)
        outbox.own_users = {
            "hub": self._user("hub", HUB),
            "enrol": self._user("enrol", ENROLMENT, pinned=False),
        }
        self._outbox = outbox
        await outbox.users()
        chunk_answers = ChunkAnswers(self.store, self._objects, link, world.clock, self.topics)
        parts = Parts(
            store=self.store,
            link=link,
            clock=world.clock,
            ids=self._ids,
            topics=self.topics,
            outbox=outbox,
            inbox=Inbox(self.store, outbox, world.clock, self.topics),
            asks=Asks(self.store, link, self.topics, {AskChunks: chunk_answers.answer}),
            blobs=Blobs(self.store, self._objects, link, self.topics),
            chunk_answers=chunk_answers,
            deltas=Deltas(self.store, self._objects, InlineDeltas(), world.clock),
            jobs=Jobs(self.store, outbox, ScriptedLauncher({}, {}), world.clock, {}),
        )
        await Hub(parts, self._seal, VirtualScheduler(world.clock), Intervals()).run()

    def _seal(self, assignment: bytes) -> bytes:
        return seal(assignment, ASSIGNMENT_TYPE, self._director.signers())

    def _user(self, name: str, access: Access, *, pinned: bool = True) -> BrokerUser:
        root = self.topics.root
        verifier = hashlib.sha256(self._passwords[name].encode()).hexdigest()
        return BrokerUser(name, verifier, under(root, access.publish), under(root, access.receive), pinned)


def _key(world: World, name: str) -> SigningKey:
    return SigningKey(Ed25519PrivateKey.from_private_bytes(world.rng.child(f"{name} key").bytes(32)))
