"""A small world around one device: a cloud that vouches, signs and assigns, a link through the air, light models.

Real are the signatures, the chunks, the services and, where a test wants it, the ONNX files.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper
from paho.mqtt.client import topic_matches_sub
from safetensors.numpy import save

from edge_agent.adapters.http_api import LocalApi
from edge_agent.adapters.onnx_trainer import onnx_trainer
from edge_agent.bootstrap import AgentPolicy, assemble
from edge_agent.ports import Captures, Disk, Installer, Machine, Ports, Runtime, Trust
from edge_agent.service.agent import Agent
from edge_agent.service.courier import Uplink
from edge_agent.service.inference import Inference
from edge_agent.service.reconciler import Reconciler
from edge_agent.service.tasks import Tasks
from simulator.fakes.device import FixedMachine, MemoryCaptures
from simulator.fakes.offload import InlineOffload
from simulator.fakes.runtime import LightRuntime, MemoryInstaller
from simulator.fakes.trust import InlineTrust
from tests.worlds.trust_world import DIRECTOR, ROOT, Cloud
from wire.adapters.keys import SigningKey
from wire.adapters.system import SystemIds
from wire.asks import Ask
from wire.assignment import Assignment, Execution, FederatedPolicy, SlotAssignment
from wire.codec import decode, encode
from wire.dsse import ASSIGNMENT_TYPE, seal
from wire.messages import Phase, Receipt, Reported, SlotReport, Telemetry
from wire.ports import Clock, Inbound, Link
from wire.release import (
    Companions,
    Golden,
    Learning,
    ObjectRef,
    Release,
    RuntimeNeeds,
    Tensor,
    Variant,
    object_ref,
)
from wire.topics import Topics
from wire.transfer.chunks import frames

DEVICE = "p01-left"
TOPICS = Topics("fl/1")
SLOT = "main"
FEATURES, CLASSES = 4, 3


def onnx_model(seed: int, *, padding: int = 0) -> bytes:
    """A linear model x [N, 4] -> logits [N, 3]; `padding` bytes make the file longer."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(FEATURES, CLASSES)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["logits"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", FEATURES])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        [helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.tobytes(), raw=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.doc_string = "p" * padding
    data: bytes = model.SerializeToString()
    return data


def golden_vectors(model: bytes, *, wrong: bool = False) -> bytes:
    """32 inputs and the logits that `model` gives (or, if `wrong`, others)."""
    weights = np.frombuffer(onnx.load_from_string(model).graph.initializer[0].raw_data, np.float32)
    inputs = np.random.default_rng(5).normal(size=(32, FEATURES)).astype(np.float16)
    logits = inputs.astype(np.float32) @ weights.reshape(FEATURES, CLASSES)
    return save({"inputs": inputs, "logits/fp32": -logits if wrong else logits})


@dataclass(frozen=True)
class Shipped:
    """A release with all its files."""

    release: Release
    files: dict[str, bytes]

    @property
    def document(self) -> bytes:
        """The release document."""
        return encode(self.release)

    @property
    def ref(self) -> ObjectRef:
        """The document as an object, as an assignment names it."""
        return object_ref(self.document).brief()


def ship(version: int = 1, *, model: bytes = b"", golden: bytes = b"", **changes: Any) -> Shipped:
    """Make a release. Files that are not given are plain bytes; `changes` alter the release."""
    model = model or b"model %d " % version * 40_000
    golden = golden or b"golden of %d" % version
    parts = {name: f"{name} of {version}".encode() for name in ("parameters", "train_step", "eval", "card")}
    release = Release(
        model="watch",
        version=version,
        counter=version,
        input=Tensor(name="x", shape=(-1, FEATURES)),
        classes=("a", "b", "c", "d"),
        parent=object_ref(b"parent"),
        variants=(
            Variant(
                name="fp32",
                precision="fp32",
                file=object_ref(model),
                needs=RuntimeNeeds(opset=17, operators=("MatMul",)),
                golden=Golden(logits="logits/fp32", tolerance=0.01),
            ),
        ),
        companions=Companions(
            golden=object_ref(golden),
            parameters=object_ref(parts["parameters"]),
            train_step=object_ref(parts["train_step"]),
            eval=object_ref(parts["eval"]),
        ),
        learning=Learning(batch=8, parameters=()),
        card=object_ref(parts["card"]),
    )
    release = msgspec.structs.replace(release, **changes)
    files = {object_ref(data).sha256: data for data in (model, golden, encode(release), *parts.values())}
    return Shipped(release, files)


def wanted(shipped: Shipped, execution: str = "e1", *, attempt: int = 1, **changes: Any) -> SlotAssignment:
    """What an assignment says of the slot."""
    variant = shipped.release.variants[0]
    timing: dict[str, Any] = {"step_timeout_s": 5.0, "total_timeout_s": 60.0, "health_window_s": 0.05}
    timing |= changes.pop("timing", {})
    slot = SlotAssignment(
        slot=SLOT,
        model=shipped.release.model,
        version=shipped.release.version,
        variant=variant.name,
        sha256=variant.file.sha256,
        release=shipped.ref,
        execution=Execution(id=execution, attempt=attempt, **timing),
    )
    return msgspec.structs.replace(slot, **changes)


def committed(version: int) -> Callable[[SlotReport], bool]:
    """Does the slot run this version, done?"""
    return lambda slot: slot.phase is Phase.COMMITTED and slot.current is not None and slot.current.version == version


def assign(
    sequence: int, *slots: SlotAssignment, key: SigningKey = DIRECTOR, device: str = DEVICE, **more: Any
) -> bytes:
    """A signed assignment."""
    more = {"federated": FederatedPolicy(enabled=True), **more}
    assignment = Assignment(device=device, sequence=sequence, issued_ns=sequence, slots=slots, **more)
    return seal(encode(assignment), ASSIGNMENT_TYPE, key.signers())


@dataclass
class Air:
    """What is retained, and what the device published. Outlives every link, as a broker would."""

    retained: dict[str, bytes] = field(default_factory=dict)
    published: list[tuple[str, bytes]] = field(default_factory=list)
    receipts: bool = True
    cloud: Cloud = field(default_factory=Cloud)

    def __post_init__(self) -> None:
        self.link: AirLink | None = None
        self._news = asyncio.Event()

    def hold(self, shipped: Shipped, *, vouched: bool = True) -> None:
        """Retain the chunks of all files; the publisher vouches for the release."""
        if vouched:
            self.cloud.repository.publish(shipped.document)
        for sha256, data in shipped.files.items():
            for index, payload in enumerate(frames(data)):
                self.retained[TOPICS.blob(sha256, index)] = payload

    def drop(self, sha256: str) -> None:
        """Retain this object no longer."""
        for topic in [topic for topic in self.retained if sha256 in topic]:
            del self.retained[topic]

    def send(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish to whoever listens."""
        if retain:
            self.retained[topic] = payload
        if self.link is not None:
            self.link.deliver(topic, payload, retained=False)

    def desire(self, envelope: bytes) -> None:
        """Retain a desired document."""
        self.send(TOPICS.dn(DEVICE, "desired"), envelope, retain=True)

    def take(self, topic: str, payload: bytes) -> None:
        """The device published."""
        self.published.append((topic, payload))
        self._news.set()
        if topic == TOPICS.up(DEVICE, "ask"):
            answer = self.cloud.answer(decode(payload, Ask), DEVICE)
            if answer is not None:
                self.send(TOPICS.dn(DEVICE, "answer"), answer)
        kinds: dict[str, type[Reported | Telemetry]] = {"reported": Reported, "telemetry": Telemetry}
        for channel, kind in kinds.items():
            if self.receipts and topic == TOPICS.up(DEVICE, channel):  # type: ignore[arg-type]
                seq = msgspec.json.decode(payload, type=kind).seq
                self.send(TOPICS.dn(DEVICE, "receipt"), encode(Receipt(channel=channel, seq=seq)))

    @property
    def reports(self) -> list[Reported]:
        """All reports so far."""
        topic = TOPICS.up(DEVICE, "reported")
        return [msgspec.json.decode(data, type=Reported) for name, data in self.published if name == topic]

    async def report(self, good: Callable[[Reported], bool], timeout_s: float = 10.0) -> Reported:
        """The first report, from now or the newest before, that is `good`."""
        seen = max(0, len(self.reports) - 1)
        async with asyncio.timeout(timeout_s):
            while True:
                for report in self.reports[seen:]:
                    if good(report):
                        return report
                seen = len(self.reports)
                self._news.clear()
                await self._news.wait()

    async def slot(self, good: Callable[[SlotReport], bool]) -> SlotReport:
        """The state of the slot in the first report where it is `good`."""
        report = await self.report(lambda one: any(good(slot) for slot in one.slots))
        return report.slots[0]


POLICY = AgentPolicy(5.0, 64 * 1024, telemetry_closest_s=0.05)


class AirLink:
    """The `wire.ports.Link` through the air: immediate, in order, and it can be down."""

    def __init__(self, air: Air) -> None:
        self.on_message: Callable[[Inbound], None] = lambda message: message.ack()
        self.on_up: Callable[[], None] = lambda: None
        self.on_down: Callable[[str], None] = lambda reason: None
        self.acknowledged: list[str] = []
        self.subscribed: dict[str, None] = {}
        self._air = air
        self._connected = False
        air.link = self

    @property
    def connected(self) -> bool:
        """Is it up?"""
        return self._connected

    async def start(self) -> None:
        """Come up."""
        self._connected = True
        asyncio.get_running_loop().call_soon(self._up)

    async def stop(self) -> None:
        """Go down."""
        self._connected = False

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish."""
        await asyncio.sleep(0)
        self._air.take(topic, payload)

    def send(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish, if it is up."""
        if self._connected:
            self._air.take(topic, payload)

    async def subscribe(self, *filters: str) -> None:
        """Get what is retained, once more at every call."""
        await asyncio.sleep(0)
        self.subscribed.update(dict.fromkeys(filters))
        if self._connected:
            self._send_retained(filters)

    async def unsubscribe(self, *filters: str) -> None:
        """Forget."""
        await asyncio.sleep(0)
        for one in filters:
            self.subscribed.pop(one, None)

    def deliver(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """A message arrives, if somebody asked for it."""
        if self._connected and any(topic_matches_sub(one, topic) for one in self.subscribed):
            ack = lambda: self.acknowledged.append(topic)  # noqa: E731
            message = Inbound(topic, payload, retained, ack)
            asyncio.get_running_loop().call_soon(self.on_message, message)

    def _up(self) -> None:
        self._send_retained(tuple(self.subscribed))
        self.on_up()

    def _send_retained(self, filters: tuple[str, ...]) -> None:
        for one in filters:
            if one in self._air.retained:
                self.deliver(one, self._air.retained[one], retained=True)


@dataclass(frozen=True)
class Gear:
    """The device's ports; what is not given is light and in memory."""

    disk: Disk
    clock: Clock
    link: Link
    installer: Installer | None = None
    runtime: Runtime | None = None
    captures: Captures | None = None
    machine: Machine = field(default_factory=FixedMachine)
    trust: Trust = field(default_factory=lambda: InlineTrust(ROOT))
    policy: AgentPolicy = POLICY

    def ports(self) -> Ports:
        """All of them."""
        return Ports(
            link=self.link,
            clock=self.clock,
            ids=SystemIds(),
            disk=self.disk,
            trust=self.trust,
            installer=self.installer or MemoryInstaller(self.disk, self.clock),
            runtime=self.runtime or LightRuntime(self.disk, self.clock),
            captures=self.captures or MemoryCaptures(),
            machine=self.machine,
            make_trainer=onnx_trainer,
        )


@dataclass(frozen=True)
class Device:
    """A running device."""

    agent: Agent
    inference: Inference
    reconciler: Reconciler
    host: Any
    api: LocalApi


@asynccontextmanager
async def device(gear: Gear, on_crash: Callable[[BaseException], None] | None = None) -> AsyncIterator[Device]:
    """The agent's services over `gear`, started; stopped at the end."""
    crashes: list[BaseException] = []
    ports = gear.ports()
    uplink = Uplink(DEVICE, TOPICS, ports.link, ports.clock, Tasks(on_crash or crashes.append))
    agent, api = assemble(ports, uplink, lambda path: path, InlineOffload(), gear.policy)
    await agent.start()
    try:
        learner: Any = agent._learner
        yield Device(agent, api.inference, agent.reconciler, learner._host, api)
    finally:
        await agent.stop()
    assert crashes == []
