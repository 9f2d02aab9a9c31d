"""One live device: the agent's real services over a real MQTT session, its disk in memory, its inference light.

What many devices have in common (contents, verdicts on metadata, keys of directors, clocks) they share, so that ten
thousand fit into a process; what is a device's own is its own.
"""

import asyncio
import contextlib
import contextvars
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import numpy as np

from edge_agent.adapters.broker_access import BrokerAccess, credentials
from edge_agent.adapters.onnx_trainer import onnx_trainer
from edge_agent.adapters.p256_keys import P256Keys
from edge_agent.bootstrap import AgentPolicy, assemble
from edge_agent.core.identity import Identity
from edge_agent.errors import EnrolmentError, NoModelError
from edge_agent.ports import Ports
from edge_agent.service.agent import Agent, offline_status
from edge_agent.service.courier import Uplink
from edge_agent.service.enrolment import Desk, Enrolment
from edge_agent.service.inference import Inference
from edge_agent.service.membership import Member
from edge_agent.service.tasks import Tasks
from edge_agent.service.telemetry import INTERVAL_S
from simulator.fakes.device import FixedMachine, MemoryCaptures
from simulator.fakes.offload import InlineOffload
from simulator.fakes.runtime import LightRuntime, MemoryInstaller
from simulator.live.disk import SharedDisk
from simulator.live.pool import Pool
from simulator.live.trust import Judgements, SharedTrust
from wire.adapters.mqtt_link import Credentials, MqttLink, Will
from wire.adapters.system import SystemClock, SystemIds
from wire.identity import ClaimFile
from wire.ports import SECOND, Inbound, Timer
from wire.topics import Chunk, Parsed, Topics

ENROL_TIMEOUT_S = 60.0
ENROL_AGAIN_S = 5.0
BLOB = "/blob/"
"""In the topics of chunks."""
WINDOW = np.zeros(8, dtype=np.float32)
"""What every application shows its model."""
CONNECTING_AT_ONCE = 64
"""Devices of a process. All have to come back after a storm, and one that only waits for its turn takes little room."""
_NO_CONTEXT = contextvars.Context()


class Habits(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for all devices of a run."""

    keepalive_s: int = 60
    telemetry_interval_s: float = INTERVAL_S
    predict_every_s: float = 0.0
    """0 = no application asks for predictions."""


@dataclass(slots=True)
class Traffic:
    """What all devices of a process sent and received, in bytes of payload."""

    sent_bytes: int = 0
    received_bytes: int = 0
    connects: int = 0
    predictions: int = 0


class SharedClock(SystemClock):
    """The system's, whose timers do not keep a copy of the context each: there are several for every device."""

    def call_later(self, ns: int, call: Callable[[], None]) -> Timer:
        """Schedule on the running loop."""
        return asyncio.get_running_loop().call_later(ns / SECOND, call, context=_NO_CONTEXT)


class SharedTopics(Topics):
    """Topics of chunks are the same for all devices, and taken apart once."""

    __slots__ = ("_known",)

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self._known: dict[str, Parsed] = {}

    def parse(self, topic: str) -> Parsed:
        """Take a concrete topic apart. Raises TopicError."""
        known = self._known.get(topic)
        if known is None:
            known = super().parse(topic)
            if isinstance(known, Chunk):
                self._known[topic] = known
        return known


@dataclass(frozen=True, slots=True)
class Common:
    """What the devices of a process share."""

    habits: Habits
    on_crash: Callable[[BaseException], None]
    pool: Pool = field(default_factory=Pool)
    judgements: Judgements = field(default_factory=Judgements)
    traffic: Traffic = field(default_factory=Traffic)
    clock: SharedClock = field(default_factory=SharedClock)
    ids: SystemIds = field(default_factory=SystemIds)
    keys: P256Keys = field(default_factory=P256Keys)
    machine: FixedMachine = field(default_factory=FixedMachine)
    offload: InlineOffload = field(default_factory=InlineOffload)
    topics: dict[str, Topics] = field(default_factory=dict)
    door: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONNECTING_AT_ONCE))


class SharedLink(MqttLink):
    """Counts what it carries. What came to another device already is the same object here."""

    common: Common

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish and count."""
        self.common.traffic.sent_bytes += len(payload)
        await super().publish(topic, payload, retain=retain)

    def send(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send and count."""
        self.common.traffic.sent_bytes += len(payload)
        super().send(topic, payload, retain=retain)

    def cut(self) -> None:
        """Lose the connection without a word."""
        self._connection.interrupt("cut")

    async def _connect_once(self) -> str:
        async with self.common.door:
            return await super()._connect_once()

    def _accepted(self) -> None:
        self.common.traffic.connects += 1
        super()._accepted()

    def _on_message(self, message: Inbound) -> None:
        topic, payload, retained, ack = message
        self.common.traffic.received_bytes += len(payload)
        if BLOB in topic:
            message = Inbound(topic, self.common.pool.share(payload), retained, ack)
        super()._on_message(message)


class LiveDevice:
    """A device of the fleet."""

    __slots__ = (
        "_agent",
        "_application",
        "_common",
        "_inference",
        "_source_address",
        "_tasks",
        "claim",
        "disk",
        "link",
        "trouble",
    )

    def __init__(self, claim: ClaimFile, common: Common, source_address: str = "") -> None:
        self.claim = claim
        self.disk = SharedDisk(common.pool)
        self.link: SharedLink | None = None
        self.trouble = ""
        """Why it has no identity yet."""
        self._common = common
        self._source_address = source_address
        self._agent: Agent | None = None
        self._inference: Inference | None = None
        self._application: Timer | None = None
        self._tasks = Tasks(common.on_crash)

    @property
    def enrolled(self) -> bool:
        """Has it an identity?"""
        return self._agent is not None

    @property
    def connected(self) -> bool:
        """Is it connected to the broker as itself?"""
        return self.link is not None and self.link.connected

    def tell(self, running: Counter[str], failed: Counter[str]) -> None:
        """Count what this device runs, and what went wrong here."""
        if self.trouble:
            failed[self.trouble] += 1
        if self._agent is None or self.link is None:
            return
        if self.link.trouble:
            failed[self.link.trouble] += 1
        if self._agent.reconciler.refused:
            failed[self._agent.reconciler.refused] += 1
        for state in self._agent.reconciler.record.slots.values():
            if state.current is not None:
                running[f"{state.current.installed.model} {state.current.installed.version}"] += 1
            if state.outcome is not None and state.reason:
                failed[f"{state.outcome.value}: {state.reason}"] += 1

    async def join(self) -> None:
        """Enrol, as often as it takes, and begin to work."""
        while True:
            try:
                identity = await self._enrol()
                break
            except EnrolmentError as error:
                self.trouble = str(error)
                await asyncio.sleep(ENROL_AGAIN_S)
        self.trouble = ""
        await self._work(identity)

    async def leave(self) -> None:
        """Say goodbye."""
        if self._application is not None:
            self._application.cancel()
        if self._agent is not None:
            await self._agent.stop()

    def cut(self) -> None:
        """Lose the connection without a word."""
        if self.link is not None:
            self.link.cut()

    async def _enrol(self) -> Identity:
        enrolment = Enrolment(self.disk, self._common.keys, self._common.ids, ENROL_TIMEOUT_S)
        return await enrolment.enrol_first(self.claim, self._open_desk(self.claim))

    def _open_desk(self, claim: ClaimFile) -> Desk:
        client = f"enrol-{self._common.ids.new()[:16]}"
        login = Credentials(claim.enrol_username, claim.enrol_password, client)
        link = MqttLink(claim.enrol or claim.broker, login, source_address=self._source_address)
        return Desk(link, self._common.clock, self._topics, client)

    @property
    def _topics(self) -> Topics:
        root = self.claim.topic_root
        return self._common.topics.setdefault(root, SharedTopics(root))

    async def _work(self, identity: Identity) -> None:
        common, topics = self._common, self._topics
        will = Will(topics.up(identity.username, "status"), offline_status())
        self.link = SharedLink(
            self.claim.broker,
            credentials(identity),
            will=will,
            keepalive_s=common.habits.keepalive_s,
            source_address=self._source_address,
        )
        self.link.common = common
        ports = Ports(
            link=self.link,
            clock=common.clock,
            ids=common.ids,
            disk=self.disk,
            trust=SharedTrust(self.claim.root, common.judgements),
            installer=MemoryInstaller(self.disk, common.clock, canary_ns=0),
            runtime=LightRuntime(self.disk, common.clock),
            captures=MemoryCaptures(),
            machine=common.machine,
            make_trainer=onnx_trainer,
        )
        uplink = Uplink(identity.username, topics, self.link, common.clock, self._tasks)
        member = Member(self.claim, identity, common.keys, BrokerAccess(self.link), self._open_desk)
        policy = AgentPolicy(common.habits.telemetry_interval_s)
        self._agent, api = assemble(ports, uplink, str, common.offload, policy, member)
        self._inference = api.inference
        await self._agent.start()
        self._predict_later()

    # The application.

    def _predict_later(self) -> None:
        every_s = self._common.habits.predict_every_s
        if every_s:
            loop = asyncio.get_running_loop()
            self._application = loop.call_later(every_s, self._apply)

    def _apply(self) -> None:
        self._tasks.spawn(self._predict(), "application")
        self._predict_later()

    async def _predict(self) -> None:
        assert self._inference is not None
        with contextlib.suppress(NoModelError):
            await self._inference.predict(WINDOW)
            self._common.traffic.predictions += 1
