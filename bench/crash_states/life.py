"""One life of a device: the real services start on a disk, go on until they are at rest, and are watched while they do.

Light are only the ports: a cloud without delay, virtual time, a runtime that believes its model file but checks that it
is the one its name says.
"""

import hashlib
from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.crash_states.cloud import CLAIM, TOPICS, Cloud, CloudLink
from bench.crash_states.recording import RecordingDisk
from edge_agent.adapters.dsse_trust import DsseTrust
from edge_agent.adapters.http_api import LocalApi
from edge_agent.bootstrap import assemble
from edge_agent.core.pointer import Record
from edge_agent.errors import AgentError, DiskError, ModelError, PredictionFailedError
from edge_agent.ports import Ports
from edge_agent.service.agent import Agent
from edge_agent.service.claims import adopt_claim
from edge_agent.service.courier import Uplink
from edge_agent.service.durable import write_atomic
from edge_agent.service.enrolment import IDENTITY, Enrolment, Identity, prepare_identity
from edge_agent.service.inference import Inference
from edge_agent.service.tasks import Tasks
from simulator.core.clock import VirtualClock
from simulator.core.loop import SimulationError, VirtualLoop
from simulator.core.rng import Rng, SeededIds
from simulator.fakes.device import FixedMachine, MemoryCaptures
from simulator.fakes.offload import InlineOffload
from simulator.fakes.runtime import LightSession, MemoryInstaller
from simulator.memory_disk import PowerCutError
from wire.codec import encode
from wire.ports import MILLISECOND, Clock

if TYPE_CHECKING:
    from edge_agent.ports import Floats

FEATURES = 4
LOOK_NS = 600 * MILLISECOND
MAX_LOOKS = 700
"""Looks at a device until it has to be at rest: 420 virtual seconds."""
ENROL_TIMEOUT_S = 60.0
TELEMETRY_INTERVAL_S = 0.5


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
        if hashlib.sha256(data).hexdigest() != sha256:
            self._broken.append(f"runs a model file that is not what its name says: {sha256[:8]}")
        if sha256 in self._hazards.unloadable:
            raise ModelError("the runtime refuses it")
        return SickSession(self._clock) if sha256 in self._hazards.sick else LightSession(self._clock)


class SickSession(LightSession):
    """A model that fails on every input."""

    async def predict(self, x: "Floats") -> "Floats":
        """Fail. Raises ModelError."""
        raise ModelError("the model fails")


@dataclass(slots=True)
class Life:
    """From power on until rest, or until the model takes the device down. `seed` makes its secrets its own."""

    disk: RecordingDisk
    cloud: Cloud
    hazards: Hazards
    judge: Judge
    seed: int

    def run(self) -> bool:
        """Live; was the device taken down?"""
        loop = VirtualLoop(Rng(1))
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
        identity = await self._identify(clock)
        agent, api = self._assemble(clock, identity, tasks)
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

    async def _identify(self, clock: Clock) -> Identity:
        """As `edge_agent.bootstrap` does, over this link."""
        ids = SeededIds(Rng(self.seed, "secrets"))
        claim = await adopt_claim(self.disk, CLAIM)
        identity = await prepare_identity(self.disk, ids, claim)
        if not identity.enrolled:
            link, client = CloudLink(self.cloud), "enrol-1"
            identity = await Enrolment(link, clock, TOPICS, client).run(claim, identity, ENROL_TIMEOUT_S)
            await write_atomic(self.disk, IDENTITY, encode(identity))
        if hashlib.sha256(identity.password.encode()).hexdigest() != self.cloud.promises.verifier:
            self.judge.broken.append("identity: logs in with another secret than the hub admitted")
        return identity

    def _assemble(self, clock: Clock, identity: Identity, tasks: Tasks) -> tuple[Agent, LocalApi]:
        link = CloudLink(self.cloud)
        ports = Ports(
            link=link,
            clock=clock,
            ids=SeededIds(Rng(self.seed, "ids")),
            disk=self.disk,
            trust=DsseTrust(identity.username, CLAIM.director_keys, CLAIM.publisher_keys),
            installer=MemoryInstaller(self.disk, clock, self.hazards.unfit),
            runtime=WatchedRuntime(self.disk, clock, self.hazards, self.judge.broken),
            captures=MemoryCaptures(),
            machine=FixedMachine(),
        )
        uplink = Uplink(identity.username, TOPICS, link, clock, tasks)
        agent, api = assemble(ports, uplink, str, InlineOffload(), TELEMETRY_INTERVAL_S)
        self.cloud.record = lambda: agent.reconciler.record
        return agent, api


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
