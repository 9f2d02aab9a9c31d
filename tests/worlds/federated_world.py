"""A small federated world for tests: a real broker in a child process, devices with client and trainer, a model.

The model is a softmax regression whose gradient is written out by hand; its graphs have the contract's names.
"""

import asyncio
import hashlib
import json
import sys
import zlib
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edge_agent.ports import Installer, RehearsalRequest
from federated.aggregator import open_run, read_spec
from federated.core.report import Result
from federated.device.client import FederatedClient
from federated.device.ports import HostError, LearningFiles, Remembered, Samples, Trainer
from federated.device.trainer import OnnxTrainer
from federated.records import load_arrays, save_arrays
from federated.spec import Participant, Spec
from wire.adapters.mqtt_link import Credentials, MqttLink, Will
from wire.adapters.system import SystemClock, ThreadOffload
from wire.assignment import FederatedPolicy
from wire.codec import decode, encode
from wire.identity import Broker
from wire.messages import Status
from wire.ports import Inbound
from wire.release import Learning, ObjectRef, Tensor
from wire.topics import Chunk, Downward, Topics
from wire.transfer.receiver import Complete, Output, Receiver, Request, Write

FEATURES, CLASSES, BATCH = 6, 3, 8
MODEL, VERSION = "toy", 1
TOPICS = Topics("fl/1")
LEARNING = Learning(
    batch=BATCH,
    parameters=(Tensor(name="w", shape=(FEATURES, CLASSES)), Tensor(name="b", shape=(CLASSES,))),
)
CONFIG = {"local-epochs": 2, "lr": 0.1, "momentum": 0.9, "seed": 7}


def starting_parameters() -> dict[str, NDArray[np.float32]]:
    """A fixed starting point, in the order of the release."""
    rng = np.random.default_rng(3)
    return {
        "w": rng.normal(0, 0.1, (FEATURES, CLASSES)).astype(np.float32),
        "b": np.zeros(CLASSES, np.float32),
    }


def samples_of(device: str, windows: int = 60) -> Samples:
    """Labelled windows of a device: the same classes for all, each device with a shift of its own."""
    rng = np.random.default_rng(zlib.crc32(device.encode()))
    centres = np.random.default_rng(11).normal(0, 1.5, (CLASSES, FEATURES))
    labels = np.repeat(np.arange(CLASSES), windows // CLASSES)
    x = centres[labels] + rng.normal(0, 0.5, FEATURES) + rng.normal(0, 0.8, (len(labels), FEATURES))
    return Samples(x.astype(np.float32), labels.astype(np.int64))


def write_graphs(folder: Path) -> LearningFiles:
    """Write both graphs of the model."""
    folder.mkdir(parents=True, exist_ok=True)
    step, judge = folder / "train_step.onnx", folder / "eval.onnx"
    onnx.save(_train_step(), step)
    onnx.save(_eval(), judge)
    return LearningFiles(str(step), str(judge), LEARNING)


def _value(name: str, shape: Iterable[int | str], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def _train_step() -> onnx.ModelProto:
    node = helper.make_node
    shapes = {"w": (FEATURES, CLASSES), "b": (CLASSES,)}
    constants = [
        helper.make_tensor("depth", TensorProto.INT64, [1], [CLASSES]),
        helper.make_tensor("off_on", TensorProto.FLOAT, [2], [0.0, 1.0]),
        helper.make_tensor("batch", TensorProto.FLOAT, [], [float(BATCH)]),
        helper.make_tensor("axis0", TensorProto.INT64, [1], [0]),
    ]
    nodes = [
        node("Gather", ["X", "idx_k"], ["x"], axis=0),
        node("Gather", ["Y", "idx_k"], ["y"], axis=0),
        node("Gemm", ["x", "p.w", "p.b"], ["logits"]),
        node("LogSoftmax", ["logits"], ["logp"], axis=1),
        node("Exp", ["logp"], ["p"]),
        node("OneHot", ["y", "depth", "off_on"], ["hot"], axis=-1),
        node("Sub", ["p", "hot"], ["d"]),
        node("Div", ["d", "batch"], ["dn"]),
        node("Gemm", ["x", "dn"], ["g.w"], transA=1),
        node("ReduceSum", ["dn", "axis0"], ["g.b"], keepdims=0),
        node("Mul", ["hot", "logp"], ["picked"]),
        node("ReduceSum", ["picked"], ["total"], keepdims=0),
        node("Div", ["total", "batch"], ["mean"]),
        node("Neg", ["mean"], ["loss"]),
    ]
    for name in shapes:
        nodes += [
            node("Mul", [f"m.{name}", "mu"], [f"decayed.{name}"]),
            node("Add", [f"decayed.{name}", f"g.{name}"], [f"next.m.{name}"]),
            node("Mul", [f"next.m.{name}", "lr"], [f"move.{name}"]),
            node("Sub", [f"p.{name}", f"move.{name}"], [f"next.p.{name}"]),
        ]
    state = [f"{part}.{name}" for part in "pm" for name in shapes]
    shape_of = {entry: shapes[entry[2:]] for entry in state}
    body = helper.make_graph(
        nodes,
        "step",
        [_value(entry, shape_of[entry]) for entry in state] + [_value("idx_k", [BATCH], TensorProto.INT64)],
        [_value(f"next.{entry}", shape_of[entry]) for entry in state] + [_value("loss", [])],
        constants,
    )
    outs = [f"out.{entry}" for entry in state] + ["losses"]
    scan = node("Scan", [f"in.{entry}" for entry in state] + ["idx"], outs, body=body, num_scan_inputs=1)
    inputs = [_value(f"in.{entry}", shape_of[entry]) for entry in state] + [
        _value("X", ["N", FEATURES]),
        _value("Y", ["N"], TensorProto.INT64),
        _value("idx", ["K", BATCH], TensorProto.INT64),
        _value("lr", []),
        _value("mu", []),
    ]
    outputs = [_value(f"out.{entry}", shape_of[entry]) for entry in state] + [_value("losses", ["K"])]
    return _model(helper.make_graph([scan], "train", inputs, outputs))


def _eval() -> onnx.ModelProto:
    inputs = [_value("p.w", (FEATURES, CLASSES)), _value("p.b", (CLASSES,)), _value("x", ["N", FEATURES])]
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "p.w", "p.b"], ["logits"])], "eval", inputs, [_value("logits", ["N", CLASSES])]
    )
    return _model(graph)


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


class MemoryHost:
    """A device's host without a device: memory instead of a disk, and the retained pull for objects."""

    def __init__(self, files: LearningFiles, samples: Samples, link: MqttLink) -> None:
        self.files = files
        self.captured = samples
        self.allowed = FederatedPolicy(enabled=True, min_samples=16, holdout_share=0.2)
        self.runs = (MODEL, VERSION)
        self.remembered: dict[str, Remembered] = {}
        self.updates_accepted = 0
        self.trained: list[str] = []
        self.installer: Installer | None = None
        self._link = link
        self._pulls: dict[str, tuple[Receiver, dict[int, bytes], asyncio.Event]] = {}

    def policy(self) -> FederatedPolicy:
        """The policy set by the test."""
        return self.allowed

    def now_ns(self) -> int:
        """The machine's clock."""
        return SystemClock().now_ns()

    async def fetch(self, ref: ObjectRef) -> bytes:
        """Pull retained chunks, at most ten seconds."""
        receiver, parts, done = Receiver(ref), dict[int, bytes](), asyncio.Event()
        self._pulls[ref.sha256] = (receiver, parts, done)
        await self._apply(ref.sha256, receiver.start())
        try:
            await asyncio.wait_for(done.wait(), 10)
        except TimeoutError as error:
            raise HostError(f"object {ref.sha256[:12]} did not come") from error
        finally:
            del self._pulls[ref.sha256]
        data = b"".join(parts[index] for index in sorted(parts))
        assert hashlib.sha256(data).hexdigest() == ref.sha256
        return data

    def on_chunk(self, chunk: Chunk, payload: bytes) -> None:
        """A retained chunk arrived."""
        pull = self._pulls.get(chunk.sha256)
        if pull is None or not payload:
            return
        for output in pull[0].on_chunk(chunk.chunk, payload):
            if isinstance(output, Write):
                pull[1][output.index] = output.data
                for more in pull[0].on_written(output.index):
                    if isinstance(more, Complete):
                        pull[2].set()

    async def _apply(self, sha256: str, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Request):
                await self._link.subscribe(*(TOPICS.blob(sha256, index) for index in output.indices))

    async def learning(self, model: str, version: int) -> LearningFiles | None:
        """The toy model's graphs, tried first where there is an installer."""
        if self.installer is not None:
            shape = (-1, FEATURES)
            asked = RehearsalRequest(self.files.train_step, self.files.eval, LEARNING, shape, CLASSES, 20.0)
            reason = await self.installer.rehearse(asked)
            if reason:
                raise HostError(reason)
        return self.files if (model, version) == self.runs else None

    def trainer(self, files: LearningFiles) -> Trainer:
        """Stock onnxruntime."""
        return OnnxTrainer(files)

    async def samples(self, model: str) -> Samples:
        """What the test says was captured."""
        return self.captured

    async def remember(self, task: str, reply: bytes, arrays: bytes) -> None:
        """Into memory."""
        self.trained.append(task)
        self.remembered[task] = Remembered(reply, arrays)

    async def recall(self, task: str) -> Remembered | None:
        """From memory."""
        return self.remembered.get(task)

    async def forget(self, task: str, *, update_accepted: bool) -> None:
        """Out of memory."""
        del self.remembered[task]
        self.updates_accepted += update_accepted


class Device:
    """One device on the broker. `tamper` may change what leaves it, topic and payload."""

    def __init__(self, name: str, broker: Broker, files: LearningFiles) -> None:
        self.name = name
        will = Will(TOPICS.up(name, "status"), encode(Status(online=False)))
        self.link = MqttLink(broker, Credentials(name, "secret"), will=will)
        self.host = MemoryHost(files, samples_of(name), self.link)
        self.up = asyncio.Event()
        self.offload = ThreadOffload()
        self.client = FederatedClient(name, TOPICS, self.link, SystemClock(), self.offload, self.host)
        self.on_fed = self.client.on_fed
        """What takes federated messages: a test may put itself in between."""
        self.link.on_message = self._on_message
        self.link.on_up = self._on_up

    async def start(self) -> None:
        """Come online; returns when the broker and everybody listening know."""
        await self.link.subscribe(TOPICS.dn(self.name, "fed"), TOPICS.dn(self.name, "want"))
        await self.link.start()
        await asyncio.wait_for(self.up.wait(), 10)
        await self._say_online()

    async def stop(self) -> None:
        """Leave without a last will: the status says offline."""
        await self.client.close()
        if self.link.connected:
            await self.link.publish(TOPICS.up(self.name, "status"), encode(Status(online=False)), retain=True)
        await self.link.stop()
        self.offload.close()

    async def _say_online(self) -> None:
        await self.link.publish(TOPICS.up(self.name, "status"), encode(Status(online=True)), retain=True)

    def _on_up(self) -> None:
        if self.up.is_set():  # a later connection: the broker may have forgotten everything
            self._greeting = asyncio.get_running_loop().create_task(self._say_online())
        self.up.set()
        self.client.on_up()

    def _on_message(self, message: Inbound) -> None:
        match TOPICS.parse(message.topic):
            case Downward(_, "fed"):
                self.on_fed(message.payload)
            case Downward(_, "want"):
                self.client.on_want(message.payload)
            case Chunk() as chunk:
                self.host.on_chunk(chunk, message.payload)
            case _:
                pass  # this plain broker hands retained messages of anybody's filters to whoever reconnects
        message.ack()


@asynccontextmanager
async def fleet(names: Iterable[str], broker: Broker, files: LearningFiles) -> AsyncIterator[Mapping[str, Device]]:
    """Devices that are online for the length of the block."""
    async with AsyncExitStack() as stack:
        devices = {}
        for name in names:
            device = devices[name] = Device(name, broker, files)
            await device.start()
            stack.push_async_callback(device.stop)
        yield devices


class AggregatorProcess:
    """`python -m federated.aggregator` on a run directory, as the hub's launcher would start it."""

    def __init__(self, directory: Path, broker: Broker, **changes: object) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        parameters = directory / "start.safetensors"
        parameters.write_bytes(save_arrays(starting_parameters()))
        names = changes.pop("names")
        assert isinstance(names, tuple)
        fields: dict[str, object] = {
            "run": "run-1",
            "model": MODEL,
            "version": VERSION,
            "devices": tuple(Participant(name=name, labels={"arm": "left"}) for name in names),
            "rounds": 4,
            "evaluate_every": 2,
            "train_config": CONFIG,
            "parameters": str(parameters),
            "order": tuple(starting_parameters()),
            "broker": broker,
            "topic_root": TOPICS.root,
            "run_directory": str(directory),
        }
        self.path = directory / "spec.json"
        self.path.write_bytes(encode(Spec(**{**fields, **changes})))  # type: ignore[arg-type]
        self.events: list[dict[str, object]] = []

    async def run_here(self, stop: asyncio.Event | None = None) -> int:
        """The same in this process, which is quicker to start; its exit code."""
        one = open_run(*read_spec(self.path), lambda event: self.events.append(json.loads(encode(event))))
        return await one.run(stop or asyncio.Event())

    async def start(self) -> None:
        """Launch it."""
        with (self.directory / "stderr.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "federated.aggregator",
                str(self.path),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=1 << 20,
            )

    async def until(self, event: str) -> dict[str, object]:
        """Read progress up to the next line of this kind."""
        async for line in self.process.stdout or ():
            self.events.append(json.loads(line))
            if self.events[-1]["event"] == event:
                return self.events[-1]
        raise AssertionError((self.directory / "stderr.log").read_text()[-2000:] + str(self.events[-3:]))

    async def finish(self) -> int:
        """Read all progress; the exit code."""
        async for line in self.process.stdout or ():
            self.events.append(json.loads(line))
        return await self.process.wait()

    async def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        await self.process.wait()

    def final(self) -> dict[str, NDArray[np.generic]]:
        """The parameters it wrote."""
        return load_arrays((self.directory / "final.safetensors").read_bytes())

    def result(self) -> Result:
        """The result it wrote."""
        return decode((self.directory / "result.json").read_bytes(), Result, limit=1 << 20)
