"""The daemon as a process with a certificate of seconds, over a real mosquitto: its whole life as a member."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.x509 import load_pem_x509_certificate

from edge_agent.client import AgentClient, AgentError
from tests.servers.certificate_broker import NEEDS_MOSQUITTO, CertificateBroker
from tests.worlds.agent_world import DEVICE, TOPICS
from tests.worlds.member_world import Office, claim_file
from wire.adapters.mqtt_link import Credentials, MqttLink
from wire.adapters.system import SystemClock
from wire.codec import encode
from wire.ports import SECOND, Inbound

pytestmark = NEEDS_MOSQUITTO

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("FLEETLOOP_AGENT_PYTHON", sys.executable)
WAIT_S = 40.0


class DeskHub:
    """The office of `member_world` over two real links: at the enrolment listener and at the devices' listener."""

    def __init__(self, broker: CertificateBroker) -> None:
        self.office = Office(SystemClock(), authority=broker.authority)
        pair = broker.authority.issue("hub")
        self._links = {
            f"{TOPICS.root}/enrol/up/+": MqttLink(broker.at("open"), Credentials("hub-desk")),
            f"{TOPICS.root}/up/#": MqttLink(broker.at(), Credentials("hub", certificate=pair[0], key=pair[1])),
        }
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
        for topics, link in self._links.items():
            link.on_message = lambda message, link=link: self._take(link, message)  # type: ignore[misc]
            await link.subscribe(topics)
            await link.start()

    async def stop(self) -> None:
        """Leave."""
        for link in self._links.values():
            await link.stop()

    def _take(self, link: MqttLink, message: Inbound) -> None:
        message.ack()
        if "/enrol/up/" in message.topic:
            self._send(link, message.topic.replace("/up/", "/dn/"), encode(self.office.at_desk(message.payload)))
        elif message.topic.endswith("/ask"):
            answer = self.office.on_ask(message.payload)
            if answer is not None:
                self._send(link, TOPICS.dn(DEVICE, "answer"), answer)

    def _send(self, link: MqttLink, topic: str, payload: bytes) -> None:
        task = asyncio.create_task(link.publish(topic, payload))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Daemon:
    """`fleetloop agent` with a claim that asks for a certificate."""

    def __init__(self, directory: Path, broker: CertificateBroker) -> None:
        self.directory, self.log = directory / "agent", directory / "agent.log"
        self._broker = broker
        self._claim = directory / "claim.json"
        self.process: subprocess.Popen[bytes] | None = None

    def claim(self, number: int) -> None:
        """Put the `number`th claim where the daemon finds it."""
        addresses = {"broker": self._broker.at(), "enrol": self._broker.at("open")}
        self._claim.write_bytes(encode(msgspec.structs.replace(claim_file(number), **addresses)))

    def start(self) -> None:
        """Start it."""
        command = [*self.command(), "--claim", str(self._claim), "--log-level", "debug"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)

    def stop(self) -> None:
        """SIGKILL, if it runs."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(WAIT_S)
            self.process = None

    def command(self, *words: str) -> list[str]:
        """A command line of the agent."""
        return [PYTHON, "-m", "fleetloop", "agent", *words, "--data-dir", str(self.directory)]

    def ask(self, *words: str) -> tuple[int, str]:
        """Run a command of the agent: (exit code, output)."""
        done = subprocess.run(self.command(*words), cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S)
        return done.returncode, done.stdout + done.stderr

    def wrong(self) -> set[str]:
        """What the doctor finds wrong."""
        _, text = self.ask("doctor", "--json")
        return {finding["what"] for finding in json.loads(text)["findings"] if finding["advice"]}

    async def until(self, good: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first status that is good."""
        async with asyncio.timeout(WAIT_S):
            while True:
                status = await asyncio.to_thread(self._status)
                if status is not None and good(status):
                    return status
                await asyncio.sleep(0.1)

    def _status(self) -> dict[str, Any] | None:
        try:
            with AgentClient(self.directory / "agent.sock") as client:
                return client.status()
        except AgentError:
            return None


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[CertificateBroker]:
    """mosquitto."""
    (tmp_path / "broker").mkdir()
    one = CertificateBroker(tmp_path / "broker")
    yield one
    one.kill()


@pytest.fixture
def daemon(tmp_path: Path, broker: CertificateBroker) -> Iterator[Daemon]:
    """Killed at the end."""
    one = Daemon(tmp_path, broker)
    yield one
    one.stop()


@asynccontextmanager
async def desk_hub(broker: CertificateBroker) -> AsyncIterator[DeskHub]:
    """A running hub."""
    hub = DeskHub(broker)
    await hub.start()
    try:
        yield hub
    finally:
        await hub.stop()


def connected(status: dict[str, Any]) -> bool:
    """Is it?"""
    return bool(status["connected"])


def ends_ns(status: dict[str, Any]) -> int:
    """End of the certificate in force."""
    end: int = status["reported"]["certificate_expires_ns"]
    return end


def end_ns(certificate: str) -> int:
    """Until when it is good."""
    return int(load_pem_x509_certificate(certificate.encode()).not_valid_after_utc.timestamp()) * SECOND


def test_a_certificate_of_seconds_is_renewed_lost_recovered_revoked_and_claimed_anew(
    broker: CertificateBroker, daemon: Daemon
) -> None:
    """One device from its claim to its second claim; not one secret in its debug log; files closed to others."""

    async def scenario() -> None:
        async with desk_hub(broker) as hub:
            office = hub.office
            office.backdate_ns, office.life_ns = 0, 6 * SECOND
            daemon.claim(1)
            daemon.start()
            first = await daemon.until(connected)
            second = await daemon.until(lambda status: connected(status) and ends_ns(status) > ends_ns(first))
            assert (office.renewals >= 1, office.recoveries) == (True, 0)
            assert second["boot"] == 1

            daemon.stop()
            last = max(map(end_ns, office.granted.values()))  # it may have been granted one that it has not reported
            while SystemClock().now_ns() < last + 2 * SECOND:
                await asyncio.sleep(0.2)
            office.life_ns = 3600 * SECOND
            daemon.start()
            await daemon.until(connected)
            assert office.recoveries >= 1
            assert await asyncio.to_thread(daemon.wrong) <= {"trust"}  # this hub has no metadata to show

            office.no = "this device was revoked"
            for certificate in office.granted.values():
                broker.revoke(certificate)
            await asyncio.sleep(0.3)
            daemon.stop()
            daemon.start()
            status = await daemon.until(lambda status: "revoked" in status["problem"])
            assert not connected(status)
            _, text = await asyncio.to_thread(daemon.ask, "status")
            assert "a new claim file enrols it again" in text
            assert await asyncio.to_thread(daemon.wrong) - {"trust"} == {"login"}

            office.no = ""
            daemon.stop()
            daemon.claim(2)
            daemon.start()
            await daemon.until(lambda status: connected(status) and not status["problem"])

    asyncio.run(scenario())
    identity = daemon.directory / "identity"
    log = daemon.log.read_text()
    told = json.loads((identity / "identity.json").read_text())
    assert "Traceback" not in log
    for secret in (*told["key"].splitlines()[1:3], claim_file(1).token, claim_file(2).token):
        assert secret not in log
    modes = {oct(path.stat().st_mode & 0o777) for path in identity.iterdir()}
    assert (modes, oct(identity.stat().st_mode & 0o777)) == ({"0o600"}, "0o700")
