"""One life of a device: the real services start on a disk, go on until they are at rest, and are watched while they do.

Light are only the ports: a cloud without delay, virtual time, a runtime that believes its model file but checks that it
is the one its name says.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from bench.crash_states.cloud import TOPICS, Cloud
from bench.crash_states.identities import LightAccess, LightKeys, secret_of
from bench.crash_states.link import CloudLink
from bench.crash_states.recording import RecordingDisk, sha256_of
from bench.crash_states.repository import Repository
from edge_agent.adapters.http_api import LocalApi
from edge_agent.adapters.onnx_trainer import onnx_trainer
from edge_agent.bootstrap import AgentPolicy, assemble
from edge_agent.core.pointer import Record
from edge_agent.core.trust import Judgement, Question
from edge_agent.errors import AgentError, DiskError, ModelError, PredictionFailedError
from edge_agent.judging import judge
from edge_agent.ports import Counts, FetchMetadata, Ports
from edge_agent.service.agent import Agent
from edge_agent.service.claims import adopt_claim
from edge_agent.service.courier import BOOT_SHIFT, Uplink
from edge_agent.service.enrolment import Desk, Enrolment
from edge_agent.service.identity import load_identity
from edge_agent.service.inference import Inference
from edge_agent.service.membership import Member
from edge_agent.service.outbox import SPOOL_NS
from edge_agent.service.tasks import Tasks
from simulator.core.clock import VirtualClock
from simulator.core.loop import SimulationError, VirtualLoop
from simulator.core.rng import Rng, SeededIds
from simulator.fakes.device import FixedMachine, MemoryCaptures
from simulator.fakes.offload import InlineOffload
from simulator.fakes.runtime import LightSession, MemoryInstaller
from simulator.fakes.trust import InlineTrust, folder
from simulator.memory_disk import PowerCutError
from wire.adapters.keys import verifiers
from wire.codec import encode
from wire.dsse import Verify
from wire.identity import ClaimFile
from wire.ports import MILLISECOND, Clock

if TYPE_CHECKING:
    from edge_agent.ports import Floats

FEATURES = 4
LOOK_NS = 600 * MILLISECOND
MAX_LOOKS = 700
"""Looks at a device until it has to be at rest: 420 virtual seconds."""
ENROL_TIMEOUT_S = 60.0
TELEMETRY_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class Hazards:
    """What is wrong with models, by digest."""

    unfit: Container[str] = ()
    """Does not reproduce its golden vectors."""
    unloadable: Container[str] = ()
    """Passes the canary, but the daemon cannot load it."""
    sick: Container[str] = ()
    """Loads, and fails on every input."""
    deadly: Container[str] = ()
    """Takes the whole device down when the daemon loads it."""


@dataclass(frozen=True, slots=True)
class Device:
    """A started device, as those see it who judge."""

    disk: RecordingDisk
    agent: Agent
    inference: Inference

    @property
    def record(self) -> Record:
        """What it knows."""
        return self.agent.reconciler.record


class Judge:
    """Who looks at a device while it lives. Each look adds to `broken`."""

    broken: list[str]

    def started(self, device: Device) -> None:
        """It has served what it has; no message came yet."""

    def answered(self, device: Device, version: int | None) -> None:
        """An application asked, and this version answered; None: none could."""

    def settled(self, device: Device) -> bool:
        """Has it got what it was to get to?"""
        raise NotImplementedError

    def at_rest(self, device: Device) -> None:
        """It is settled, and does nothing any more."""


class WatchedRuntime:
    """The `edge_agent.ports.Runtime`: knows of `hazards`, and notes in `broken` when a damaged model is run."""

    def __init__(self, disk: RecordingDisk, clock: Clock, hazards: Hazards, broken: list[str]) -> None:
        self._disk = disk
        self._clock = clock
        self._hazards = hazards
        self._broken = broken

    async def load(self, path: str) -> LightSession:
        """Load the object at `path`. Raises ModelError."""
        sha256 = path.rpartition("/")[2]
        if sha256 in self._hazards.deadly:
            self._disk.die()
        try:
            data = await self._disk.read(path)
        except DiskError as error:
            raise ModelError(str(error)) from error
        if sha256_of(data) != sha256:
            self._broken.append(f"runs a model file that is not what its name says: {sha256[:8]}")
        if sha256 in self._hazards.unloadable:
            raise ModelError("the runtime refuses it")
        return SickSession(self._clock) if sha256 in self._hazards.sick else LightSession(self._clock)


class DirectTrust(InlineTrust):
    """Judges what the repository serves without asking over the link, and remembers: it costs milliseconds."""

    def __init__(self, root: bytes, repository: Repository) -> None:
        super().__init__(root)
        self._repository = repository

    def verifiers(self, directors: Iterable[str]) -> Mapping[str, Verify]:
        """Key id -> verification with that key, which remembers as well."""
        return _verifiers(tuple(directors))

    async def judge(self, question: Question, fetch: FetchMetadata, limit_s: float) -> Judgement:
        """The judgement. No document here ever expires, so the time does not matter."""
        held, told = tuple(sorted(question.files.items())), tuple(sorted(question.told.items()))
        known = (id(self._repository), question.root, held, told, encode(question.floors), question.paths)
        if known not in _JUDGED:
            _JUDGED[known] = judge(question, self._repository.piece, folder())
        return _JUDGED[known]


_JUDGED: dict[object, Judgement] = {}


@cache
def _verifiers(directors: tuple[str, ...]) -> Mapping[str, Verify]:
    return {key: lru_cache(maxsize=256)(verify) for key, verify in verifiers(directors).items()}


class CountedCaptures(MemoryCaptures):
    """Says when it was asked for its counts, which only telemetry does here."""

    def __init__(self) -> None:
        super().__init__()
        self.on_counted: Callable[[int], None] = lambda number: None
        self._counted = 0

    async def counts(self) -> Counts:
        """The counters."""
        self._counted += 1
        self.on_counted(self._counted)
        return await super().counts()


class SickSession(LightSession):
    """A model that fails on every input."""

    async def predict(self, x: "Floats") -> "Floats":
        """Fail. Raises ModelError."""
        raise ModelError("the model fails")


@dataclass(slots=True)
class Life:
    """From power on until rest, or until the model takes the device down. `seed` makes its secrets its own, `order`
    decides what comes first of things that happen at once."""

    disk: RecordingDisk
    cloud: Cloud
    hazards: Hazards
    judge: Judge
    seed: int
    order: int
    outbox_bytes: int

    def run(self) -> bool:
        """Live; was the device taken down?"""
        loop = VirtualLoop(Rng(self.order))
        try:
            loop.run(self._live(VirtualClock(loop), Tasks(loop.fail)))
        except PowerCutError:
            return True
        except SimulationError as error:
            if isinstance(error.__cause__, PowerCutError):
                return True
            self.judge.broken.append(f"fails: {error}")
        except AgentError as error:
            self.judge.broken.append(f"does not start: {type(error).__name__}: {error}")
        return False

    async def _live(self, clock: Clock, tasks: Tasks) -> None:
        agent, api = self._assemble(clock, await self._identify(clock), tasks)
        await agent.start()
        device = Device(self.disk, agent, api.inference)
        self.judge.started(device)
        await self._until_rest(device, clock)

    async def _until_rest(self, device: Device, clock: Clock) -> None:
        for _ in range(MAX_LOOKS):
            operations = self.disk.operations
            await clock.sleep(LOOK_NS)
            if not self.judge.settled(device):
                self.judge.answered(device, await _ask(device.inference))
            elif self.disk.operations == operations:
                self.judge.at_rest(device)
                return
        self.judge.broken.append(f"does not come to rest: {_summary(device.record)}")

    async def _identify(self, clock: Clock) -> Member:
        """As `edge_agent.bootstrap` does, over this link."""
        cloud, keys = self.cloud, LightKeys(Rng(self.seed, "keys"))

        def open_desk(claim: ClaimFile) -> Desk:
            return Desk(CloudLink(cloud), clock, TOPICS, "enrol-1")

        claim = await adopt_claim(self.disk, cloud.far.claim)
        identity = await load_identity(self.disk, keys, claim)
        if identity is None:
            enrolment = Enrolment(self.disk, keys, SeededIds(Rng(self.seed, "secrets")), ENROL_TIMEOUT_S)
            identity = await enrolment.enrol_first(claim, open_desk(claim))
        access = LightAccess(lambda secret: secret in cloud.promises.admitted)
        if secret_of(identity) not in cloud.promises.admitted:
            self.judge.broken.append("identity: logs in with another secret than the hub admitted")
        return Member(claim, identity, keys, access, open_desk)

    def _assemble(self, clock: Clock, member: Member, tasks: Tasks) -> tuple[Agent, LocalApi]:
        link, captures = CloudLink(self.cloud), CountedCaptures()
        ports = Ports(
            link=link,
            clock=clock,
            ids=SeededIds(Rng(0, "ids")),
            disk=self.disk,
            trust=DirectTrust(member.claim.root, self.cloud.far.repository),
            installer=MemoryInstaller(self.disk, clock, self.hazards.unfit),
            runtime=WatchedRuntime(self.disk, clock, self.hazards, self.judge.broken),
            captures=captures,
            machine=FixedMachine(),
            make_trainer=onnx_trainer,
        )
        uplink = Uplink(member.identity.username, TOPICS, link, clock, tasks)
        policy = AgentPolicy(TELEMETRY_INTERVAL_S, self.outbox_bytes)
        agent, api = assemble(ports, uplink, str, InlineOffload(), policy, member)
        self.cloud.record = lambda: agent.reconciler.record
        captures.on_counted = lambda number: self._measured(clock, number)
        return agent, api

    def _measured(self, clock: Clock, number: int) -> None:
        """Telemetry was measured for the `number`th time since this start; soon it is on the disk or at the hub."""
        seq = (self.cloud.record().boot << BOOT_SHIFT) + number
        clock.call_later(SPOOL_NS + LOOK_NS, lambda: self.cloud.owe(seq))


async def _ask(inference: Inference) -> int | None:
    """Which version answers in each slot? The highest; None if some slot that has a model cannot."""
    versions = []
    for slot in inference.slots:
        try:
            versions.append((await inference.predict(np.zeros(FEATURES, np.float32), slot)).version)
        except PredictionFailedError:
            return None
    return max(versions, default=None)


def _summary(record: Record) -> str:
    return ", ".join(f"{name} {state.phase.value} {state.reason}" for name, state in sorted(record.slots.items()))
