"""The daemon as a process, a plain broker, and just enough of a hub for both."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.client import AgentError
from simulator.fakes.tuf_repository import TufRepository
from tests.servers.plain_broker import BrokerProcess
from tests.worlds.agent_world import (
    DEVICE,
    DIRECTOR,
    SLOT,
    TOPICS,
    Shipped,
    golden_vectors,
    onnx_model,
    ship,
)
from tests.worlds.trust_world import Cloud
from wire.adapters.mqtt_link import Credentials, MqttLink
from wire.asks import Ask
from wire.codec import encode
from wire.identity import ClaimFile, EnrolReply, EnrolRequest
from wire.messages import Phase, Receipt, Reported, SlotReport, Status
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
