"""One device with the agent's real services, an honest cloud, and room for an attacker: all in virtual time.

The attacker may hold keys, serve what it likes in place of the cloud, and change what travels. Light are only the
ports: a disk in memory, a runtime that believes its model file. Trust metadata is judged by the installer child's own
function.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.attack_cases.attack import Outcome
from bench.attack_cases.releases import wanted
from bench.crash_states.releases import DEVICE, SLOT, Shipped
from edge_agent.adapters.onnx_trainer import onnx_trainer
from edge_agent.bootstrap import AgentPolicy, assemble
from edge_agent.core.pointer import Record
from edge_agent.core.slot import State
from edge_agent.ports import Ports
from edge_agent.service.agent import Agent
from edge_agent.service.courier import Uplink
from edge_agent.service.tasks import Tasks
from simulator.core.clock import EPOCH_NS, VirtualClock
from simulator.core.loop import Process
from simulator.core.rng import Rng, SeededIds
from simulator.fakes.device import FixedMachine, MemoryCaptures
from simulator.fakes.link import MemoryLink
from simulator.fakes.offload import InlineOffload
from simulator.fakes.runtime import LightRuntime, MemoryInstaller
from simulator.fakes.trust import InlineTrust
from simulator.fakes.tuf_repository import TufRepository
from simulator.memory_disk import MemoryDisk
from simulator.world import World
from wire.adapters.keys import SigningKey
from wire.adapters.mqtt_link import Credentials
from wire.asks import MAX_PIECE_BYTES, Answer, Ask, AskMetadata, AskTime, MetadataPiece, Refused, SignedTime, TimeTold
from wire.assignment import Assignment, SlotAssignment
from wire.codec import decode, encode
from wire.dsse import ASSIGNMENT_TYPE, TIME_TYPE, seal
from wire.errors import WireError
from wire.messages import Outcome as Ended
from wire.messages import Phase, Receipt, Reported
from wire.ports import SECOND, Inbound
from wire.topics import Topics, Upward
from wire.transfer.chunks import frames

TOPICS: Final = Topics()
RESTING: Final = (Phase.COMMITTED, Phase.FAILED)
PATIENCE_S: Final = 900
REPUBLISH_S: Final = 61


class SceneError(Exception):
    """The honest part of a scene does not come about."""


def key(number: int) -> SigningKey:
    """The same key every time."""
    return SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


DIRECTOR, NEW_DIRECTOR, STRANGER, OTHER_STRANGER = (key(number) for number in (1, 2, 3, 4))


class Cloud:
    """The honest cloud. What it serves and says may be replaced by an attack."""

    def __init__(self, world: World) -> None:
        self.repository = TufRepository((DIRECTOR.public_hex,), EPOCH_NS)
        self.root = self.repository.root
        """The root in the device's claim."""
        self.director = DIRECTOR
        self.sequence = 0
        self.newest = b""
        """Envelope of the assignment that was published last."""
        self.asked: list[AskMetadata | AskTime] = []
        self.reports: list[Reported] = []
        self.serve: Callable[[AskMetadata], MetadataPiece | Refused | None] = self.honestly
        self.tell: Callable[[AskTime], TimeTold | None] = self.truly
        self.clock = world.clock
        self.delay_s = 0.0
        """How long it takes to answer."""
        self._link = MemoryLink(world.broker, world.clock, Credentials("hub", "", "hub"))

    async def open(self) -> None:
        """Listen to the device."""
        self._link.on_message = self._on_message
        await self._link.subscribe(*(TOPICS.all_up(channel) for channel in ("ask", "reported")))
        await self._link.start()
        await self.clock.sleep(SECOND)

    # What it says.

    async def publish(self, shipped: Shipped) -> None:
        """The publisher vouches for the release, and its files are there to be fetched."""
        self.repository.publish(shipped.document)
        await self.retain(shipped)

    async def retain(self, shipped: Shipped, change: Callable[[str, int, bytes], bytes | None] | None = None) -> None:
        """The files are there to be fetched; `change(sha256, index, payload)` is what an attacker makes of a chunk."""
        for sha256, data in shipped.files.items():
            for index, payload in enumerate(frames(data)):
                sent = change(sha256, index, payload) if change else payload
                if sent is not None:
                    await self.send(TOPICS.blob(sha256, index), sent)

    def assignment(self, *slots: SlotAssignment, **changes: Any) -> Assignment:
        """The next assignment."""
        self.sequence += 1
        fields = {"device": DEVICE, "sequence": self.sequence, "issued_ns": self.clock.now_ns(), "slots": slots}
        return Assignment(**{**fields, **changes})

    async def assign(self, shipped: Shipped, *, signer: SigningKey | None = None, **changes: Any) -> None:
        """Have the device run this release; `changes` alter what the assignment says of the slot."""
        name = f"execution-{self.sequence + 1}"
        await self.desire(self.assignment(wanted(shipped, name, **changes)), signer)

    async def desire(self, assignment: Assignment, signer: SigningKey | None = None) -> bytes:
        """Sign and publish; returns the envelope."""
        envelope = seal(encode(assignment), ASSIGNMENT_TYPE, (signer or self.director).signers())
        self.newest = envelope
        await self.send(TOPICS.dn(DEVICE, "desired"), envelope)
        return envelope

    async def send(self, topic: str, payload: bytes) -> None:
        """Publish, retained."""
        await self._link.publish(topic, payload, retain=True)

    # What it answers.

    def honestly(self, ask: AskMetadata) -> MetadataPiece:
        """From the repository as it is."""
        return piece(self.repository.files, ask)

    def truly(self, ask: AskTime, *, signer: SigningKey | None = None, now_ns: int | None = None) -> TimeTold:
        """The time."""
        told = SignedTime(device=DEVICE, nonce=ask.nonce, now_ns=self.clock.now_ns() if now_ns is None else now_ns)
        return TimeTold(envelope=seal(encode(told), TIME_TYPE, (signer or self.director).signers()))

    def _on_message(self, message: Inbound) -> None:
        message.ack()
        match TOPICS.parse(message.topic):
            case Upward(channel="ask"):
                self._answer(decode(message.payload, Ask))
            case Upward(channel="reported"):
                with suppress(WireError):
                    report = decode(message.payload, Reported)
                    self.reports.append(report)
                    self._reply("receipt", encode(Receipt(channel="reported", seq=report.seq)))

    def _answer(self, ask: Ask) -> None:
        match ask.what:
            case AskMetadata():
                what: MetadataPiece | Refused | TimeTold | None = self.serve(ask.what)
            case AskTime():
                what = self.tell(ask.what)
            case _:
                return
        self.asked.append(ask.what)
        if what is not None:
            self._reply("answer", encode(Answer(id=ask.id, what=what)))

    def _reply(self, channel: Any, payload: bytes) -> None:
        self.clock.call_later(
            int(self.delay_s * SECOND) + 1, lambda: _start(self._link.publish(TOPICS.dn(DEVICE, channel), payload))
        )


class Device:
    """The device; its disk outlives its power. `skew_ns` is how wrong its own clock is."""

    def __init__(self, world: World, root: bytes) -> None:
        self.disk = MemoryDisk()
        self.skew_ns = 0
        self.clock = VirtualClock(world.loop)
        self.unfit: set[str] = set()
        self.crashes: list[BaseException] = []
        self.agent: Agent | None = None
        self._world = world
        self._root = root
        self._boots = 0
        self._process = Process("device")

    async def start(self) -> None:
        """Power on."""
        self._boots += 1
        self._process = Process("device")
        await self._process.run(lambda: self._world.loop.create_task(self._start()))

    def power_off(self) -> None:
        """Nothing of it runs any more; what was not durable stays: the attacks here need no torn files."""
        self._world.loop.kill(self._process)
        self._world.broker.detach(DEVICE)

    @property
    def record(self) -> Record:
        """What it knows."""
        assert self.agent is not None
        return self.agent.reconciler.record

    @property
    def state(self) -> State:
        """Of its slot."""
        return self.record.slot(SLOT)

    def runs(self, shipped: Shipped) -> bool:
        """Is this release's model committed?"""
        current = self.state.current
        return current is not None and current.installed.sha256 == shipped.model.sha256

    def says(self) -> str:
        """Why it does not do what it is told, in its own words."""
        assert self.agent is not None
        return " ".join((self.agent.reconciler.refused, self.state.reason, self.agent._freshness.problem)).strip()

    async def _start(self) -> None:
        self.clock = clock = VirtualClock(self._world.loop, self.skew_ns)
        link = MemoryLink(self._world.broker, clock, Credentials(DEVICE, ""))
        ports = Ports(
            link=link,
            clock=clock,
            ids=SeededIds(Rng(self._boots, "device")),
            disk=self.disk,
            trust=InlineTrust(self._root),
            installer=MemoryInstaller(self.disk, clock, self.unfit),
            runtime=LightRuntime(self.disk, clock),
            captures=MemoryCaptures(),
            machine=FixedMachine(),
            make_trainer=onnx_trainer,
        )
        uplink = Uplink(DEVICE, TOPICS, link, clock, Tasks(self.crashes.append))
        self.agent, _ = assemble(ports, uplink, str, InlineOffload(), AgentPolicy(60.0))
        await self.agent.start()


class Scene:
    """The stage of one try."""

    def __init__(self) -> None:
        self.world = World(0)
        self.clock = self.world.clock
        self.cloud = Cloud(self.world)
        self.device = Device(self.world, self.cloud.root)

    async def wait(self, seconds: float) -> None:
        """Let virtual time pass."""
        await self.clock.sleep(int(seconds * SECOND))

    async def settle(self, patience_s: float = PATIENCE_S) -> None:
        """Return when the device is done with what it was assigned last, or is not for a long time.

        Meanwhile that is published again now and then, as the hub does.
        """
        for second in range(1, int(patience_s)):
            await self.wait(1)
            if second % REPUBLISH_S == 0:
                await self.cloud.send(TOPICS.dn(DEVICE, "desired"), self.cloud.newest)
            state = self.device.state
            execution = f"execution-{self.cloud.sequence}"
            done = state.desired is not None and state.desired.execution.id == execution
            if self.device.crashes or (done and state.phase in RESTING and state.outcome is not None):
                return

    async def install(self, shipped: Shipped) -> None:
        """The honest way: published, assigned, committed."""
        await self.cloud.publish(shipped)
        await self.cloud.assign(shipped)
        await self.settle()
        if not self.device.runs(shipped) or self.device.state.outcome is not Ended.SUCCEEDED:
            raise SceneError(f"the scene does not work: {self.device.says()}")

    async def reboot(self) -> None:
        """Off and on again."""
        self.device.power_off()
        await self.device.start()

    def judged(self, shipped: Shipped) -> Outcome:
        """The attacker wanted this release to run."""
        return Outcome(self.device.runs(shipped), self.device.says())


Script = Callable[[Scene], Coroutine[Any, Any, Outcome]]


def staged(script: Script) -> Callable[[], Outcome]:
    """A try: a new scene with a device that is up, and `script` on it. A crash of the device is a success, too."""

    def attempt() -> Outcome:
        scene = Scene()

        async def play() -> Outcome:
            await scene.cloud.open()
            await scene.device.start()
            await scene.wait(10)
            try:
                outcome = await script(scene)
            except SceneError as error:
                outcome = Outcome(False, str(error))
            crashes = "; ".join(f"crashed: {type(error).__name__}: {error}" for error in scene.device.crashes)
            return replace(outcome, succeeded=True, reason=crashes) if crashes else outcome

        return scene.world.loop.run(play())

    return attempt


def piece(files: dict[str, bytes], ask: AskMetadata) -> MetadataPiece:
    """What a server of these files answers."""
    data = files.get(ask.name)
    if data is None:
        return MetadataPiece(found=False)
    part = data[ask.offset : ask.offset + MAX_PIECE_BYTES]
    return MetadataPiece(found=True, total=len(data), offset=ask.offset, data=part)


def _start(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
