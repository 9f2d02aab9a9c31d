"""The simulated hub: the real services on a database in memory. Database, objects and keys outlive a killed hub."""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, insert, select

from cloud.adapters.tuf_notary import TufNotary
from cloud.core.access import DEVICE, ENROLMENT, HUB, Access, under
from cloud.ports import Authority, BrokerUser
from cloud.service import certificates, enrolment, registry, rollouts
from cloud.service.asks import Asks
from cloud.service.blobs import Blobs
from cloud.service.certificates import Renewals
from cloud.service.chunk_answers import ChunkAnswers
from cloud.service.deltas import Deltas
from cloud.service.effects import Effects, Wake, wake
from cloud.service.enrolment import Door, NewClaim
from cloud.service.hub import Hub
from cloud.service.inbox import Inbox
from cloud.service.jobs import Jobs
from cloud.service.leadership import Leadership, LeadersLink
from cloud.service.outbox import Outbox
from cloud.service.parts import Intervals, Parts
from cloud.service.rollouts import NewRollout
from cloud.service.trust import deliveries
from cloud.service.trust.rows import current_root
from cloud.service.trust.service import Trust
from cloud.tables import devices, signing_requests
from edge_agent.core.identity import Identity, claim_digest
from simulator.core.loop import Process
from simulator.core.network import Network, Quality
from simulator.core.rng import SeededIds
from simulator.estate import NEVER_WAS, HubEstate
from simulator.fakes.certificates import SeededAuthority, SeededKeys
from simulator.fakes.link import MemoryLink
from simulator.fakes.scheduler import VirtualScheduler
from simulator.fakes.store import InlineDeltas, MemoryObjects, MemoryStore
from simulator.fakes.trust import RememberedKey
from simulator.learning import LearningSide
from simulator.publisher import SimulatedPublisher
from simulator.version import NEEDS, Files, build
from simulator.world import World
from wire.adapters.keys import SigningKey
from wire.adapters.mqtt_link import Credentials
from wire.asks import AskChunks, AskRenewal
from wire.codec import MAX_RELEASE_BYTES, decode, encode
from wire.identity import ClaimFile
from wire.ports import MILLISECOND
from wire.release import Release, RuntimeNeeds
from wire.topics import DEFAULT_ROOT, Topics

T = TypeVar("T")

OPERATOR = "operator"
KEYS = ("director", "online", "publisher", "root 1", "root 2", "root 3")
NO_LABELS: Mapping[str, str] = MappingProxyType({})
NOBODYS_LABELS: Mapping[str, Mapping[str, str]] = MappingProxyType({})
LOCAL_NETWORK = Quality(delay_min_ns=MILLISECOND // 5, delay_max_ns=MILLISECOND)


HUB_INTERVALS = Intervals()


class SimulatedHub:
    """A hub that can be killed and started again, and the operator and publisher who use it."""

    def __init__(
        self,
        world: World,
        intervals: Intervals = HUB_INTERVALS,
        estate: HubEstate = NEVER_WAS,
        *,
        certificate_life_ns: int = 0,
    ) -> None:
        """`certificate_life_ns`: devices log in with certificates that live so long; 0: with passwords."""
        self._intervals = intervals
        self.authority: SeededAuthority | None = None
        if certificate_life_ns:
            rng, founded_ns = world.rng.child("authority"), world.clock.now_ns()
            self.authority = SeededAuthority(rng, founded_ns, certificate_life_ns)
            world.broker.trust(self.authority.pem, _device_rights())
        self.store = MemoryStore(world.clock, estate.database)
        self.topics = Topics(DEFAULT_ROOT)
        self._world = world
        self._objects = MemoryObjects(estate.objects)
        self._ids = SeededIds(world.rng.child("hub ids"))
        keys = dict(estate.keys) or {name: first_key(world, name) for name in KEYS}
        self._notary = TufNotary(lambda: [keys["online"]], lambda: [keys["director"]])
        self._publisher = SimulatedPublisher(
            keys, keys["online"].public_hex, keys["director"].public_hex, world.clock.now_ns, estate.signed
        )
        self._keys = keys
        self.first_keys = dict(keys)
        """What a thief of an early day holds."""
        self._passwords = dict(estate.passwords) or {name: self._ids.secret() for name in ("hub", "enrol")}
        if not estate.database:
            self._found()
        self.network = Network(LOCAL_NETWORK, world.rng.child("hub network"), world.faults)
        self.link: MemoryLink | None = None
        self.learning = LearningSide(world, self._objects, self.topics)
        self._process = Process("hub")
        self._outbox: Outbox | None = None
        self._trust: Trust | None = None
        self.running = False

    def start(self) -> None:
        """Start the services on what the database holds, unless they run."""
        if self.running:
            return
        self.running = True
        self._process = Process("hub")
        self._process.run(lambda: self._world.watch(asyncio.ensure_future(self._run())))

    def kill(self) -> None:
        """The process is gone; what was committed is not."""
        self.running = False
        self._world.loop.kill(self._process)
        self._world.broker.detach("hub")
        self.learning.kill()

    def leave(self) -> HubEstate:
        """What outlives its processes."""
        return HubEstate(
            self.store.content, self._objects.held, dict(self._keys), dict(self._passwords), self._publisher.signed
        )

    async def claim(self, device: str, labels: Mapping[str, str] = NO_LABELS, *, federated: bool = False) -> ClaimFile:
        """Announce a device; its claim file."""
        token = self._ids.secret()
        new = NewClaim(device=device, labels=labels, federated=federated, token=token)
        now_ns = self._world.clock.now_ns()
        await self.store.write(lambda conn: enrolment.claim(conn, new, OPERATOR, now_ns))
        return self._claim_file(device, token, self.look(current_root))

    async def enrol(
        self,
        names: Sequence[str],
        labels: Mapping[str, Mapping[str, str]] = NOBODYS_LABELS,
        *,
        federated: bool = False,
    ) -> list[tuple[ClaimFile, Identity]]:
        """Devices as enrolment leaves them, without the exchange: for a fleet that has been there for long."""
        root, now_ns = self.look(current_root), self._world.clock.now_ns()
        found = [(self._claim_file(name, self._ids.secret(), root), self._ids.secret()) for name in names]
        verified = self.authority is None
        rows: list[dict[str, Any]] = [
            {
                **enrolment.FRESH,
                "name": claim.device,
                "labels": dict(labels.get(claim.device, NO_LABELS)),
                "federated": federated,
                "claimed_ns": now_ns,
                "enrolled_ns": now_ns,
                "verifier": hashlib.sha256(password.encode()).hexdigest() if verified else None,
            }
            for claim, password in found
        ]
        assert self._outbox is not None
        await self._outbox.change(lambda conn: _enter(conn, rows))
        if self.authority is not None:
            authority = self.authority
            return await self.store.write(
                lambda conn: [(claim, self._certify(conn, authority, claim)) for claim, _ in found]
            )
        return [(claim, _identity(claim, password)) for claim, password in found]

    def _certify(self, conn: Connection, authority: Authority, claim: ClaimFile) -> Identity:
        made = SeededKeys(self._world.rng.child(f"first key of {claim.device}")).make(claim.device)
        issued = certificates.issue(conn, authority, claim.device, made.csr, self._world.clock.now_ns())
        blank = Identity(username=claim.device, claim=claim_digest(claim), enrolled=True)
        return msgspec.structs.replace(blank, key=made.key, csr=made.csr, certificate=issued.pem)

    async def publish_version(self, model: str, files: Files, needs: RuntimeNeeds = NEEDS) -> Release:
        """Enter the next version of `model` and have the publisher sign it."""
        now_ns = self._world.clock.now_ns()
        await self.store.write(lambda conn: registry.add_model(conn, model, "simulated", now_ns))
        numbers = await self.store.read(lambda conn: registry.next_numbers(conn, model))
        built = build(model, numbers, files, self._ids.new(), needs)
        for data in (*files.all(), encode(built.card)):
            await self._objects.put(data)
        await self.store.write(lambda conn: registry.enter(conn, built, now_ns))
        await self._sign(built.release, built.request)
        return built.release

    async def sign(self, model: str, version: int) -> Release:
        """Have the publisher sign what a job has made."""
        here = (signing_requests.c.model == model) & (signing_requests.c.version == version)
        query = select(signing_requests.c.id, signing_requests.c.payload).where(here)
        row = await self.store.read(lambda conn: conn.execute(query).one())
        release = decode(row.payload, Release, limit=MAX_RELEASE_BYTES)
        await self._sign(release, row.id)
        return release

    async def content(self, sha256: str) -> bytes:
        """An object."""
        return await self._objects.get(sha256)

    async def _sign(self, release: Release, request: str) -> None:
        await self._objects.put(encode(release))
        signed, now_ns = self._publisher.sign(release), self._world.clock.now_ns()
        await self.store.write(lambda conn: registry.accept(conn, self._notary, request, signed, "publisher", now_ns))

    async def roll_out(self, new: NewRollout) -> None:
        """Start a rollout."""
        now_ns = self._world.clock.now_ns()
        await self.change(lambda conn: rollouts.create(conn, new, OPERATOR, now_ns))

    async def change(self, call: Callable[[Connection], Effects]) -> None:
        """What an operator changes, through the services of the hub as it runs. Raises what they raise."""
        assert self._outbox is not None
        await self._outbox.change(call)

    @property
    def open(self) -> bool:
        """Can an operator use it?"""
        return self.running and self._outbox is not None

    @property
    def traffic_bytes(self) -> int:
        """What went between it and the broker, both ways."""
        return self.network.up_bytes + self.network.down_bytes

    async def rotate(self, names: Iterable[str]) -> None:
        """A next root names new keys in place of these; the publisher signs under it, and the hub follows."""
        self._keys.update({name: first_key(self._world, f"next {name}") for name in names})
        root = self._publisher.rotate(self._keys, self._keys["online"].public_hex, self._keys["director"].public_hex)
        now_ns = self._world.clock.now_ns()
        await self.store.write(lambda conn: deliveries.adopt_root(conn, self._notary, root, OPERATOR, now_ns))
        assert self._trust is not None
        self._trust.wake()
        await self.renew()

    async def renew(self) -> None:
        """The publisher signs again what is due, and hands it in."""
        signed, now_ns = self._publisher.renewed(), self._world.clock.now_ns()
        await self.store.write(lambda conn: deliveries.deliver(conn, self._notary, signed, "publisher", now_ns))

    def look(self, query: Callable[[Connection], T]) -> T:
        """What the database says now."""
        return self.store.now(query)

    async def _run(self) -> None:
        world = self._world
        link = self.link = MemoryLink(
            world.broker, world.clock, Credentials("hub", self._passwords["hub"]), network=self.network
        )  # fmt: skip
        outbox = Outbox(self.store, link, world.broker, self.topics, world.clock)
        outbox.own_users = {
            "hub": self._user("hub", HUB),
            "enrol": self._user("enrol", ENROLMENT, pinned=False),
            "aggregator": self.learning.user(),
        }
        self._outbox = outbox
        await outbox.users()
        leadership = Leadership(self.store, world.clock, "hub", lease_s=10.0, alone=True)
        trust = self._trust = Trust(leadership, self._notary, world.clock)
        renewals = Renewals(self.store, world.clock, self.authority)
        chunk_answers = ChunkAnswers(self.store, self._objects, link, world.clock, self.topics)
        parts = Parts(
            store=self.store,
            link=link,
            clock=world.clock,
            ids=self._ids,
            topics=self.topics,
            outbox=outbox,
            inbox=Inbox(self.store, outbox, world.clock, Door(self.topics, self.authority)),
            asks=Asks(
                self.store,
                link,
                world.clock,
                self.topics,
                {AskChunks: chunk_answers.answer, AskRenewal: renewals.answer},
                trust.looks(),
            ),
            blobs=Blobs(leadership, self._objects, LeadersLink(link, leadership), self.topics),
            chunk_answers=chunk_answers,
            deltas=Deltas(leadership, self._objects, InlineDeltas(), world.clock),
            jobs=Jobs(leadership, outbox, self.learning.launcher, world.clock, self.learning.kinds(leadership)),
            trust=trust,
            leadership=leadership,
        )
        await Hub(parts, VirtualScheduler(world.clock), self._intervals).run()

    def _claim_file(self, device: str, token: str, root: bytes) -> ClaimFile:
        return ClaimFile(
            device=device,
            broker=self._world.broker.endpoint,
            topic_root=self.topics.root,
            credential=self._world.broker.credential,
            token=token,
            enrol_username="enrol",
            enrol_password=self._passwords["enrol"],
            root=root,
        )

    def _found(self) -> None:
        """Root, targets and bins are there before the first device is claimed."""
        now_ns = self._world.clock.now_ns()
        root, signed = self._publisher.root, self._publisher.documents()
        self.store.now(lambda conn: deliveries.adopt_root(conn, self._notary, root, OPERATOR, now_ns))
        self.store.now(lambda conn: deliveries.deliver(conn, self._notary, signed, "publisher", now_ns))

    def _user(self, name: str, access: Access, *, pinned: bool = True) -> BrokerUser:
        root = self.topics.root
        verifier = hashlib.sha256(self._passwords[name].encode()).hexdigest()
        return BrokerUser(name, verifier, under(root, access.publish), under(root, access.receive), pinned)


def _device_rights() -> Access:
    return Access(under(DEFAULT_ROOT, DEVICE.publish), under(DEFAULT_ROOT, DEVICE.receive))


def _enter(conn: Connection, rows: Sequence[Mapping[str, Any]]) -> Effects:
    conn.execute(insert(devices), rows)
    return wake(Wake.USERS)


def _identity(claim: ClaimFile, password: str) -> Identity:
    return Identity(username=claim.device, claim=claim_digest(claim), password=password, enrolled=True)


def first_key(world: World, name: str) -> SigningKey:
    """The key that has this name in a world until it is replaced: whoever steals it holds this one."""
    return RememberedKey(Ed25519PrivateKey.from_private_bytes(world.rng.child(f"{name} key").bytes(32)))
