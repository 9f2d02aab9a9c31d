"""The daemon as a process: enrols over a real broker, installs real ONNX files, serves its API, survives kills."""

import asyncio
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_agent.client import AgentClient, AgentError, Answer
from simulator.fakes.tuf_repository import TufRepository
from tests.servers.plain_broker import BrokerProcess
from tests.worlds.agent_world import (
    DEVICE,
    DIRECTOR,
    SLOT,
    TOPICS,
    Shipped,
    assign,
    committed,
    golden_vectors,
    onnx_model,
    ship,
    wanted,
)
from tests.worlds.trust_world import Cloud
from wire.adapters.mqtt_link import Credentials, MqttLink
from wire.asks import Ask
from wire.codec import encode
from wire.identity import ClaimFile, EnrolReply, EnrolRequest
from wire.messages import Outcome, Phase, Receipt, Reported, SlotReport, Status
from wire.ports import Inbound
from wire.transfer.chunks import frames

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("FLEETLOOP_AGENT_PYTHON", sys.executable)
WAIT_S = 30.0

REPOSITORY = TufRepository((DIRECTOR.public_hex,), time.time_ns())
MODELS = {number: onnx_model(number, padding=150_000) for number in (1, 2)}
RELEASES = {number: ship(number, model=model, golden=golden_vectors(model)) for number, model in MODELS.items()}


class MiniHub:
    """Just enough of a hub: admits the device, retains chunks and desired documents, receipts reports."""

    def __init__(self, broker: BrokerProcess) -> None:
        self.link = MqttLink(broker.address, Credentials("hub", ""))
        self.link.on_message = self._on_message
        self.cloud = Cloud(REPOSITORY)
        self.requests: list[EnrolRequest] = []
        self.reports: list[Reported] = []
        self.statuses: list[Status] = []
        self._news = asyncio.Condition()
        self._sending: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect and listen."""
        up = asyncio.Event()
        self.link.on_up = up.set
        channels = (TOPICS.all_up("reported"), TOPICS.all_up("status"), TOPICS.all_up("ask"))
        await self.link.subscribe(f"{TOPICS.root}/enrol/up/+", *channels)
        await self.link.start()
        await asyncio.wait_for(up.wait(), WAIT_S)

    async def retain(self, shipped: Shipped) -> None:
        """Publish all chunks of a release, for which the publisher vouches."""
        self.cloud.repository.publish(shipped.document)
        for sha256, data in shipped.files.items():
            for index, payload in enumerate(frames(data)):
                await self.link.publish(TOPICS.blob(sha256, index), payload, retain=True)

    async def desire(self, envelope: bytes) -> None:
        """Publish a desired document."""
        await self.link.publish(TOPICS.dn(DEVICE, "desired"), envelope, retain=True)

    async def slot(self, good: Callable[[SlotReport], bool]) -> SlotReport:
        """Wait for a report whose slot is `good`, from the newest on."""
        seen = max(0, len(self.reports) - 1)
        async with asyncio.timeout(WAIT_S), self._news:
            while True:
                for report in self.reports[seen:]:
                    if report.slots and good(report.slots[0]):
                        return report.slots[0]
                seen = len(self.reports)
                await self._news.wait()

    async def until(self, good: Callable[[], bool]) -> None:
        """Wait until something received makes `good` true."""
        async with asyncio.timeout(WAIT_S), self._news:
            await self._news.wait_for(good)

    def _on_message(self, message: Inbound) -> None:
        task = asyncio.create_task(self._handle(message.topic, message.payload))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        message.ack()

    async def _handle(self, topic: str, payload: bytes) -> None:
        if "/enrol/up/" in topic:
            self.requests.append(msgspec.json.decode(payload, type=EnrolRequest))
            reply = encode(EnrolReply(ok=True, username=DEVICE))
            await self.link.publish(topic.replace("/enrol/up/", "/enrol/dn/"), reply)
        elif topic.endswith("/ask"):
            answer = self.cloud.answer(msgspec.json.decode(payload, type=Ask), DEVICE)
            if answer is not None:
                await self.link.publish(TOPICS.dn(DEVICE, "answer"), answer)
        elif topic.endswith("/status"):
            self.statuses.append(msgspec.json.decode(payload, type=Status))
        else:
            self.reports.append(msgspec.json.decode(payload, type=Reported))
            receipt = encode(Receipt(channel="reported", seq=self.reports[-1].seq))
            await self.link.publish(TOPICS.dn(DEVICE, "receipt"), receipt)
        async with self._news:
            self._news.notify_all()


class Daemon:
    """`fleetloop agent` as a process of its own."""

    def __init__(self, directory: Path, broker: BrokerProcess) -> None:
        self.directory = directory / "agent"
        self.claim = directory / "claim.json"
        claim = ClaimFile(
            device=DEVICE,
            broker=broker.address,
            topic_root=TOPICS.root,
            token="t" * 32,
            enrol_username="enrol",
            enrol_password="enrol",
            root=REPOSITORY.root,
        )
        self.claim.write_bytes(encode(claim))
        self.log = directory / "agent.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        """The local API."""
        return self.directory / "agent.sock"

    def command(self, *words: str) -> list[str]:
        """A command line of the agent."""
        return [PYTHON, "-m", "fleetloop", "agent", *words, "--data-dir", str(self.directory)]

    def start(self, *, claim: bool = True) -> None:
        """Start it, without waiting."""
        words = ["--claim", str(self.claim)] if claim else []
        with self.log.open("ab") as log:
            command = [*self.command(), *words, "--telemetry-interval-s", "0.2", "--log-level", "debug"]
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)

    async def reach(self, phase: Phase) -> None:
        """Return once its record says so."""
        async with asyncio.timeout(WAIT_S):
            while json.loads((self.directory / "state.json").read_text())["record"]["slots"][SLOT]["phase"] != phase:
                await asyncio.sleep(0.01)

    def end(self, how: signal.Signals) -> int:
        """Send a signal and wait."""
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(WAIT_S)

    def peak_rss_mb(self) -> float:
        """High-water mark of the running process."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024


@pytest.fixture
def broker() -> Iterator[BrokerProcess]:
    """A plain broker."""
    process = BrokerProcess()
    yield process
    process.kill()


@pytest.fixture
def daemon(tmp_path: Path, broker: BrokerProcess) -> Iterator[Daemon]:
    """A daemon that is killed at the end if it still runs."""
    one = Daemon(tmp_path, broker)
    yield one
    if one.process is not None and one.process.poll() is None:
        one.end(signal.SIGKILL)


@asynccontextmanager
async def hub_of(broker: BrokerProcess) -> AsyncIterator[MiniHub]:
    """A running hub."""
    hub = MiniHub(broker)
    await hub.start()
    try:
        yield hub
    finally:
        await hub.link.stop()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run one scenario."""

    async def main() -> None:
        await scenario()

    asyncio.run(main())


async def call(work: Callable[[], Any]) -> Any:
    """Use the blocking client beside the loop; an agent that is starting is waited for."""
    end = time.monotonic() + WAIT_S
    while True:
        try:
            return await asyncio.to_thread(work)
        except AgentError as error:
            if error.status or time.monotonic() > end:
                raise
        await asyncio.sleep(0.05)


def test_a_new_device_enrols_installs_serves_and_comes_back_after_a_kill(broker: BrokerProcess, daemon: Daemon) -> None:
    """From a claim file to a committed real model; then kill -9 and a start without any claim."""

    async def scenario() -> None:
        async with hub_of(broker) as hub:
            await hub.retain(RELEASES[1])
            daemon.start()
            with AgentClient(daemon.socket) as application:
                with pytest.raises(AgentError, match="no model is installed yet") as refused:
                    await call(lambda: application.predict([0.0] * 4))
                assert refused.value.status == 503
                identity = json.loads((daemon.directory / "identity" / "identity.json").read_bytes())
                assert hub.requests[0].verifier == hashlib.sha256(identity["password"].encode()).hexdigest()

                await hub.desire(assign(1, wanted(RELEASES[1], "e1", timing={"step_timeout_s": 20.0})))
                report = await hub.slot(committed(1))
                assert report.golden is not None
                assert (report.outcome, report.golden.matched) == (Outcome.SUCCEEDED, 32)
                assert report.figures.canary_rss_bytes > 0
                answer: Answer = await call(lambda: application.predict(np.ones(4, np.float32)))
                same = await call(lambda: application.predict([1.0, 1.0, 1.0, 1.0]))
                assert (answer.version, answer.variant, answer.label) == (1, "fp32", same.label)
                await call(lambda: application.feedback(answer.id, answer.label))
                print(f"peak RSS {daemon.peak_rss_mb():.0f} MB, canary {report.figures}")

            daemon.end(signal.SIGKILL)
            await hub.until(lambda: not hub.statuses[-1].online)
            daemon.start(claim=False)
            with AgentClient(daemon.socket) as application:
                answer = await call(lambda: application.predict(np.ones(4, np.float32)))
                assert answer.version == 1
                status = await call(application.status)
                assert (status["predictions"], status["captured"], status["boot"]) == (3, 3, 2)
            await hub.until(lambda: hub.statuses[-1].online)
            assert await asyncio.to_thread(daemon.end, signal.SIGTERM) == 0
            await hub.until(lambda: not hub.statuses[-1].online)
            assert "Traceback" not in daemon.log.read_text()
            for secret in (identity["password"], "t" * 32):
                assert secret not in daemon.log.read_text()

    run(scenario)


def test_a_silent_broker_does_not_hold_up_the_end(broker: BrokerProcess, daemon: Daemon) -> None:
    """A network that is gone and has not been missed yet: whoever stops the agent does not wait for its broker."""

    async def scenario() -> None:
        async with hub_of(broker) as hub:
            daemon.start()
            await hub.until(lambda: bool(hub.statuses) and hub.statuses[-1].online)
            broker.process.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            assert await asyncio.to_thread(daemon.end, signal.SIGTERM) == 0
            assert time.monotonic() - began < 5.0
            broker.process.send_signal(signal.SIGCONT)

    run(scenario)


def test_a_start_that_finds_its_port_taken_counts_for_nothing(broker: BrokerProcess, daemon: Daemon) -> None:
    """Starts that do not last cast doubt on the models in use, and somebody else's port is none of their doing."""

    async def scenario() -> None:
        async with hub_of(broker) as hub:
            daemon.start()
            await hub.until(lambda: bool(hub.statuses) and hub.statuses[-1].online)

    run(scenario)
    daemon.end(signal.SIGKILL)
    before = (daemon.directory / "state.json").read_text()
    command = daemon.command("--port", str(broker.port))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S)
    assert (done.returncode, "address already in use" in done.stderr) == (1, True)
    assert (daemon.directory / "state.json").read_text() == before


def test_killed_during_an_installation_it_always_ends_with_the_new_model(broker: BrokerProcess, daemon: Daemon) -> None:
    """kill -9 as soon as each phase is on the disk; a model answers after every start."""

    async def scenario() -> None:
        async with hub_of(broker) as hub:
            for shipped in RELEASES.values():
                await hub.retain(shipped)
            daemon.start()
            await hub.desire(assign(1, wanted(RELEASES[1], "e1", timing={"step_timeout_s": 20.0})))
            await hub.slot(committed(1))
            timing = {"step_timeout_s": 20.0, "health_window_s": 0.5}
            for number, phase in enumerate((Phase.FETCHING_RELEASE, Phase.VERIFYING, Phase.TRIAL), start=2):
                target = RELEASES[1 + (number - 1) % 2]
                await hub.desire(assign(number, wanted(target, f"e{number}", timing=timing)))
                await daemon.reach(phase)
                daemon.end(signal.SIGKILL)
                daemon.start(claim=False)
                with AgentClient(daemon.socket) as application:
                    answer = await call(lambda a=application: a.predict(np.ones(4, np.float32)))  # type: ignore[misc]
                    assert answer.version in (1, 2)
                report = await hub.slot(committed(target.release.version))
                assert report.execution == f"e{number}"

    run(scenario)


def raw(path: Path, request: bytes) -> bytes:
    """Send bytes to the local API and read the first answer."""
    with socket.socket(socket.AF_UNIX) as plain:
        plain.settimeout(WAIT_S)
        plain.connect(str(path))
        plain.sendall(request)
        return plain.recv(65536)


BAD_REQUESTS = {
    "wrong shape": (b'{"input": [1, 2, 3]}', 400, b"the model takes float32 [4] (4 values), got [3]"),
    "ragged": (b'{"input": [[1], [2, 3]]}', 400, b"not numbers in equal rows"),
    "words": (b'{"input": ["a", "b", "c", "d"]}', 400, b"not numbers"),
    "unknown field": (b'{"input": [1, 2, 3, 4], "more": 1}', 400, b"unknown field `more`"),
    "not JSON": (b"]", 400, b"body: "),
    "not finite": (b'{"input": [1, 2, 3, 1e39]}', 400, b"not finite"),
}


def test_the_local_api_refuses_bad_requests_with_their_reason(broker: BrokerProcess, daemon: Daemon) -> None:
    """Each with its status; the connection and the daemon go on."""

    async def scenario() -> None:
        async with hub_of(broker) as hub:
            await hub.retain(RELEASES[1])
            daemon.start()
            await hub.desire(assign(1, wanted(RELEASES[1], "e1", timing={"step_timeout_s": 20.0})))
            await hub.slot(committed(1))
            for name, (body, status, reason) in BAD_REQUESTS.items():
                head = b"POST /v1/predict HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
                answer = await asyncio.to_thread(raw, daemon.socket, head + body)
                assert answer.startswith(b"HTTP/1.1 %d " % status), (name, answer)
                assert reason in answer, (name, answer)
            for head, status in (
                (b"POST /v1/predict HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
                (b"POST /v1/predict HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
                (b"POST /v1/predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
                (b"GET /v1/nothing HTTP/1.1\r\n\r\n", 404),
                (b"nonsense\r\n\r\n", 400),
                (b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\n\r\n", 431),
            ):
                assert (await asyncio.to_thread(raw, daemon.socket, head)).startswith(b"HTTP/1.1 %d " % status)
            with AgentClient(daemon.socket) as application:
                with pytest.raises(AgentError, match="no prediction 'nobody' is known") as unknown:
                    await call(lambda: application.feedback("nobody", 1))
                assert unknown.value.status == 404
                answer = await call(lambda: application.predict(np.ones(4, np.float32)))
                await call(lambda: application.feedback(answer.id, 1))
                with pytest.raises(AgentError, match="was given before") as twice:
                    await call(lambda: application.feedback(answer.id, 1))
                assert twice.value.status == 409
                with pytest.raises(TypeError, match="float32"):
                    application.predict(np.ones(4))
            assert oct(daemon.socket.stat().st_mode & 0o777) == "0o600"

    run(scenario)


def test_doctor_and_status_say_what_is_wrong_and_what_to_do(broker: BrokerProcess, daemon: Daemon) -> None:
    """Before the first start, and with a running daemon; a second daemon in the same directory is refused."""

    def ask(*words: str) -> tuple[int, str]:
        done = subprocess.run(daemon.command(*words), cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S)
        return done.returncode, done.stdout + done.stderr

    code, text = ask("doctor")
    assert (code, "does not exist" in text) == (1, True)
    code, text = ask()
    assert (code, "start it with --claim FILE" in text) == (1, True)
    code, text = ask("status")
    assert (code, "cannot be reached" in text) == (1, True)
    code, text = ask("doctor")
    assert code == 1
    assert "identity: none yet" in text

    async def scenario() -> None:
        async with hub_of(broker):
            daemon.start()
            with AgentClient(daemon.socket) as application:
                await call(application.status)
            code, text = await asyncio.to_thread(ask, "doctor")
            assert code == 0, text
            code, text = await asyncio.to_thread(ask, "status", "--json")
            assert json.loads(text)["device"] == DEVICE
            code, text = await asyncio.to_thread(ask)
            assert (code, "another agent runs" in text) == (1, True)

    run(scenario)
    broker.kill()
    code, text = ask("doctor")
    broker.start()
    assert (code, "see that hub and broker run" in text) == (1, True)
