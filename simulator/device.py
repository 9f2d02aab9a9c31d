"""One simulated device: the real agent on a fake disk, with a power button.

Disk, captures and identity outlive a power cut; the agent does not. After every cut the disk is checked for what must
always hold: whatever the record calls current is there, whole.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from edge_agent.adapters.broker_access import BrokerAccess, credentials
from edge_agent.bootstrap import AgentPolicy, assemble
from edge_agent.core.identity import Identity
from edge_agent.core.pointer import Record, choose
from edge_agent.core.slot import Deployed
from edge_agent.errors import DamagedRecordError, DiskError, EnrolmentError
from edge_agent.ports import Machine, Ports
from edge_agent.service.agent import offline_status
from edge_agent.service.claims import CLAIM, adopt_claim
from edge_agent.service.courier import Uplink
from edge_agent.service.durable import STATE, STATE_COPY
from edge_agent.service.enrolment import Desk, Enrolment
from edge_agent.service.identity import IDENTITY, load_identity
from edge_agent.service.inference import Inference
from edge_agent.service.membership import Member
from edge_agent.service.objects import path_of
from edge_agent.service.tasks import Tasks
from simulator.application import Application
from simulator.core.clock import VirtualClock
from simulator.core.loop import Process, SimulationError
from simulator.core.memo import sha256 as digest
from simulator.core.network import Network
from simulator.core.rng import Rng, SeededIds
from simulator.fakes.certificates import SeededKeys
from simulator.fakes.device import FixedMachine, MemoryCaptures
from simulator.fakes.learner import TamperedTrainer, Tampering, prototype_trainer
from simulator.fakes.link import MemoryLink
from simulator.fakes.offload import SlowOffload
from simulator.fakes.runtime import LightRuntime, Manner, MemoryInstaller
from simulator.fakes.trust import InlineTrust
from simulator.faults.disks import FaultyDisk
from simulator.surroundings import Surroundings
from simulator.world import World
from wire.adapters.mqtt_link import Credentials, Will
from wire.codec import encode
from wire.identity import ClaimFile
from wire.ports import SECOND, Timer
from wire.topics import Topics

if TYPE_CHECKING:
    from edge_agent.ports import Floats

ENROL_TIMEOUT_S = 600.0
OFF_MIN_NS = 1 * SECOND
OFF_MAX_NS = 90 * SECOND
LEARNING_NS = 4 * SECOND
"""What a device takes to train for a round, to evaluate, or to get ready for either."""
RESTART_NS = 5 * SECOND
"""The service manager starts an agent that has ended again after so long."""
DEFAULT_POLICY = AgentPolicy()
DEFAULT_MACHINE = FixedMachine()


class BrokenPromiseError(SimulationError):
    """Something that must hold at any instant does not."""


@dataclass(slots=True)
class Device:
    """A device of the fleet.

    `cuts`: disk operations, each counted from the last, at which its power fails, and for how many nanoseconds (None:
    as the seed decides).
    """

    world: World
    claim: ClaimFile
    network: Network
    rng: Rng
    device_class: str = ""
    machine: Machine = DEFAULT_MACHINE
    manners: dict[str, Manner] = field(default_factory=dict)
    """How models behave here that do not behave well, by digest."""
    application: Application | None = None
    surroundings: Surroundings | None = None
    prototypes: "Mapping[str, Floats]" = field(default_factory=dict)
    """Of models that tell classes apart, by digest."""
    tampering: Tampering | None = None
    """What is done to its updates before they are sent."""
    cuts: list[tuple[int, int | None]] = field(default_factory=list)
    policy: AgentPolicy = DEFAULT_POLICY
    reboots: int = 0
    crashes: int = 0
    """How often the agent ended by itself, and was started again."""
    on_started: Callable[["Device", Inference], None] = lambda device, inference: None
    """Called in the agent's process when it has started: whatever uses the device begins here."""
    on_cut: Callable[[], None] = lambda: None
    """Called after each power cut, when it is decided what is left on the disk."""
    on_loaded: Callable[[str], None] = lambda sha256: None
    """Called with the digest of the bytes of every model that the agent loads."""
    disk: FaultyDisk = field(default_factory=FaultyDisk)
    captures: MemoryCaptures = field(default_factory=MemoryCaptures)
    link: MemoryLink | None = None
    clock: VirtualClock = field(init=False)
    process: Process = field(init=False)
    _promised: tuple[int, tuple[tuple[str, str], ...]] = (0, ())
    """Slots and digests that the copies of the record with this hash promise, as they were read last."""
    _booting: Timer | None = None
    _due_ns: int = 0

    def __post_init__(self) -> None:
        self.clock = VirtualClock(self.world.loop)
        self.disk.on_cut = self.power_cut
        self.process = Process(self.name)

    @property
    def name(self) -> str:
        """Its name in the fleet."""
        return self.claim.device

    def remember(self, identity: Identity) -> None:
        """Have it hold what an enrolment leaves on the disk, and nothing else."""
        self.disk.hold({CLAIM: encode(self.claim), IDENTITY: encode(identity)})

    @property
    def files(self) -> Mapping[str, bytes]:
        """What is on its disk."""
        return {path: data for path in self.disk.paths if (data := self.disk.peek(path)) is not None}

    def boot(self) -> None:
        """Power on."""
        self.process = Process(self.name)
        self.process.run(lambda: asyncio.ensure_future(self._run()).add_done_callback(self._run_ended))

    def power_cut(self, off_ns: int | None = None) -> None:
        """Power off at this very instant; on again after `off_ns`, or after a while that the seed decides."""
        self.reboots += 1
        self.world.trace.note(self.world.clock.monotonic_ns(), "power cut", self.name)
        self.world.loop.kill(self.process)
        if self.link is not None:
            self.world.broker.vanish(self.link.client)
        self.disk.crash(self.rng)
        self._look()
        self._boot_after(self.rng.between(OFF_MIN_NS, OFF_MAX_NS) if off_ns is None else off_ns)

    def crash(self) -> None:
        """The agent's process ends, and its connection with it; the service manager starts it again."""
        self.crashes += 1
        self.world.trace.note(self.world.clock.monotonic_ns(), "crash", self.name)
        self.world.loop.kill(self.process)
        if self.link is not None:
            self.world.broker.process.run(self.world.broker.detach, self.link.client)
        self._boot_after(RESTART_NS)

    def _boot_after(self, pause_ns: int) -> None:
        """Who loses power while it is off comes back once, at the later of both moments."""
        due_ns = self.world.clock.monotonic_ns() + pause_ns
        if self._booting is not None:
            if due_ns <= self._due_ns:
                return
            self._booting.cancel()
        self._due_ns = due_ns
        self._booting = self.world.process.run(self.world.clock.call_later, pause_ns, self.boot)

    def isolate(self, key: str) -> None:
        """No network from now on, until `network.admit` is called with the same key."""
        self.network.bar(key)
        if self.link is not None and self.link.connected:
            self.world.broker.vanish(self.link.client)
            self.link.broken("the network is gone")

    def arm(self) -> None:
        """Have the power fail at the next of the planned operations."""
        if self.cuts and self.disk.cut_at is None:
            operations, off_ns = self.cuts.pop(0)
            self.disk.cut_at = self.disk.operations + operations
            self.disk.on_cut = partial(self.power_cut, off_ns)

    def record(self) -> Record:
        """The record as it is on the disk now."""
        return choose(self._copies())

    def _copies(self) -> list[bytes]:
        copies = (self.disk.peek(path) for path in (STATE, STATE_COPY))
        return [copy for copy in copies if copy is not None]

    @property
    def certificate(self) -> str:
        """What it is connected with (PEM); empty: it is not, or with a password."""
        return self.link.credentials.certificate if self.link is not None and self.link.connected else ""

    def current(self, slot: str) -> Deployed | None:
        """What is committed in `slot`."""
        return self.record().slot(slot).current

    def _look(self) -> None:
        """A task of the dead process may run this, so nobody would hear of what it raised."""
        try:
            self.check()
            self.on_cut()
        except (BrokenPromiseError, DamagedRecordError) as error:
            self.world.fail(error)

    def check(self) -> None:
        """Raises BrokenPromiseError unless every current model is on the disk, whole."""
        mark = hash(tuple(self._copies()))
        if mark != self._promised[0]:
            current = ((slot, state.current) for slot, state in self.record().slots.items())
            self._promised = mark, tuple((slot, one.installed.sha256) for slot, one in current if one is not None)
        for slot, sha256 in self._promised[1]:
            data = self.disk.peek(path_of(sha256))
            if data is None or digest(data) != sha256:
                problem = "is not on the disk" if data is None else "is damaged"
                raise BrokenPromiseError(f"{self.name}: the current model of slot {slot} {problem}")

    async def _run(self) -> None:
        self.arm()
        identity = await self._identify()
        topics, clock = Topics(self.claim.topic_root), self.clock
        will = Will(topics.up(self.name, "status"), offline_status())
        link = MemoryLink(self.world.broker, clock, credentials(identity), network=self.network, will=will)
        self.link = link
        ports = Ports(
            link=link,
            clock=clock,
            ids=SeededIds(self.rng),
            disk=self.disk,
            trust=InlineTrust(self.claim.root),
            installer=MemoryInstaller(self.disk, clock, manners=self.manners),
            runtime=LightRuntime(self.disk, clock, self.manners, self.on_loaded, self.crash, self.prototypes),
            captures=self.captures,
            machine=self.machine,
            make_trainer=lambda files: TamperedTrainer(prototype_trainer(files), lambda: self.tampering),
        )
        uplink = Uplink(identity.username, topics, link, clock, Tasks(self._ended))
        training = SlowOffload(clock, LEARNING_NS)
        if self.claim.credential == "certificate":
            member = Member(self.claim, identity, SeededKeys(self.rng), BrokerAccess(link), self._open_desk)
            agent, api = assemble(ports, uplink, str, training, self.policy, member)
        else:
            agent, api = assemble(ports, uplink, str, training, self.policy)
        await agent.start()
        self.on_started(self, api.inference)
        if self.application is not None:
            await self.application.run(api.inference, clock)

    def _run_ended(self, task: "asyncio.Future[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._ended(error)

    def _ended(self, error: BaseException) -> None:
        """A task of the agent failed. Where its disk fails by a fault, it ends with that and is started again."""
        if isinstance(error, DiskError) and self.disk.fails:
            self.crash()
        else:
            self.world.fail(error)

    async def _identify(self) -> Identity:
        """Go by the stored identity, or enrol; like a service manager, try again when that failed."""
        while True:
            try:
                return await self._enrol()
            except EnrolmentError:
                await self.world.clock.sleep(30 * SECOND)

    async def _enrol(self) -> Identity:
        claim = await adopt_claim(self.disk, self.claim)
        keys = SeededKeys(self.rng)
        identity = await load_identity(self.disk, keys, claim)
        if identity is None:
            enrolment = Enrolment(self.disk, keys, SeededIds(self.rng), ENROL_TIMEOUT_S)
            self.link, client = self._to_desk(claim)
            desk = Desk(self.link, self.world.clock, Topics(claim.topic_root), client)
            identity = await enrolment.enrol_first(claim, desk)
        return identity

    def _open_desk(self, claim: ClaimFile) -> Desk:
        link, client = self._to_desk(claim)
        return Desk(link, self.clock, Topics(claim.topic_root), client)

    def _to_desk(self, claim: ClaimFile) -> tuple[MemoryLink, str]:
        """A link to the enrolment desk, and its client id."""
        client = f"enrol-{SeededIds(self.rng).new()[:16]}"
        login = Credentials(claim.enrol_username, claim.enrol_password, client)
        return MemoryLink(self.world.broker, self.world.clock, login, network=self.network), client
