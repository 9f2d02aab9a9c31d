"""The hub as a process: first start, a device over its real broker, kill -9 and back, and an orderly end."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from cloud.bootstrap import SettingsError, check
from cloud.core.identity import digest
from cloud.settings import Settings
from tests.hub_world import CAPABILITIES
from wire.adapters.keys import load_or_create
from wire.adapters.mqtt_link import Credentials, MqttLink
from wire.codec import decode, encode
from wire.identity import Broker, EnrolReply, EnrolRequest
from wire.messages import Receipt, Reported, Status
from wire.ports import Inbound
from wire.topics import Topics

PATIENCE_S = 30.0
TOPICS = Topics()
PASSWORD = "made-by-the-device"


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class HubProcess:
    """`fleetloop hub` on free ports."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port, self.broker_port = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it serves and its broker is connected."""
        arguments = ("--data-dir", self.directory, "--port", self.port, "--broker-port", self.broker_port)
        command = [sys.executable, "-m", "fleetloop", "hub", *map(str, arguments)]
        with (self.directory.parent / "hub.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE_S
        while not self._healthy():
            assert self.process.poll() is None, (self.directory.parent / "hub.log").read_text()
            assert time.monotonic() < deadline, "the hub does not come up"
            time.sleep(0.05)

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Call the API as the administrator."""
        key = (self.directory / "admin.key").read_text().strip()
        url = f"http://127.0.0.1:{self.port}/api/v1{path}"
        answer = httpx.request(method, url, json=body, headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code < 300, answer.text
        return answer.json()

    def children(self) -> list[psutil.Process]:
        """Its child processes."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: int) -> int:
        """Send a signal and wait for the end."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def _healthy(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            answer = httpx.get(f"http://127.0.0.1:{self.port}/api/v1/health")
            return answer.status_code == 200 and answer.json()["status"] == "ok"
        return False


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """One running hub for the tests of this file; a test that ends it starts it again."""
    one = HubProcess(tmp_path_factory.mktemp("process") / "hub")
    try:
        one.start()
        yield one
    finally:
        if one.process is not None and one.process.poll() is None:
            one.end(signal.SIGKILL)


class Wire:
    """A raw MQTT client with a mailbox."""

    def __init__(self, link: MqttLink) -> None:
        self.link = link
        self.mail: asyncio.Queue[Inbound] = asyncio.Queue()
        self.up = asyncio.Event()
        link.on_message = self.mail.put_nowait
        link.on_up = self.up.set

    async def next(self, topic: str) -> bytes:
        """The next message on this topic."""
        while True:
            message = await self.mail.get()
            message.ack()
            if message.topic == topic:
                return message.payload


@contextlib.asynccontextmanager
async def wire(claim: dict[str, Any], username: str, password: str, client: str) -> AsyncIterator[Wire]:
    """Connected with these credentials."""
    link = MqttLink(Broker(**claim["broker"]), Credentials(username, password, client))
    one = Wire(link)
    await link.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            await one.up.wait()
            yield one
    finally:
        await link.stop()


async def enrol(claim: dict[str, Any]) -> EnrolReply:
    """Trade the token for an identity, as a device does."""
    client = "client-1"
    async with wire(claim, claim["enrol_username"], claim["enrol_password"], client) as one:
        await one.link.subscribe(TOPICS.enrol("dn", client))
        request = EnrolRequest(token=claim["token"], verifier=digest(PASSWORD))
        await one.link.publish(TOPICS.enrol("up", client), encode(request))
        return decode(await one.next(TOPICS.enrol("dn", client)), EnrolReply)


async def report(one: Wire, seq: int) -> Receipt:
    """Publish a report and wait for its receipt."""
    document = Reported(seq=seq, sequence=0, agent="test", capabilities=CAPABILITIES)
    await one.link.publish(TOPICS.up("p01", "reported"), encode(document))
    return decode(await one.next(TOPICS.dn("p01", "receipt")), Receipt)


def test_a_device_enrols_reports_and_survives_the_death_of_the_hub(hub: HubProcess, tmp_path: Path) -> None:
    """kill -9 of the hub: its broker goes with it, both come back on their ports, and the device just goes on."""
    public = load_or_create(tmp_path / "publisher.key").public_hex
    hub.api("POST", "/publisher-keys", {"name": "publisher", "public_key": public})
    claim = hub.api("POST", "/claims", {"device": "p01", "labels": {"arm": "left"}})

    async def scenario() -> None:
        reply = await enrol(claim)
        assert (reply.ok, reply.username) == (True, "p01")
        async with wire(claim, "p01", PASSWORD, "p01") as device:
            await device.link.subscribe(TOPICS.dn("p01", "receipt"))
            await device.link.publish(TOPICS.up("p01", "status"), encode(Status(online=True, boot=1)), retain=True)
            assert (await report(device, 1)).seq == 1
            children = hub.children()
            device.up.clear()
            hub.end(signal.SIGKILL)
            await asyncio.to_thread(hub.start)
            assert all(not child.is_running() or child.status() == psutil.STATUS_ZOMBIE for child in children)
            await device.up.wait()
            assert (await report(device, 2)).seq == 2

    asyncio.run(scenario())
    device = hub.api("GET", "/devices/p01")
    assert (device["online"], device["reported"]["seq"]) == (True, 2)


def test_secrets_are_readable_by_the_owner_only(hub: HubProcess) -> None:
    """Keys, tokens and the data directory itself."""
    secret = [path for path in hub.directory.rglob("*") if path.suffix in (".key", ".token", ".secret")]
    assert {path.name for path in secret} >= {"admin.key", "director.key", "enrol.secret", "ca.key", "server.key"}
    for path in (hub.directory, *secret):
        assert os.stat(path).st_mode & 0o077 == 0, path


def test_a_second_hub_on_the_same_directory_is_refused(hub: HubProcess) -> None:
    """It says so and leaves the first alone."""
    arguments = ("--data-dir", hub.directory, "--port", free_port(), "--broker-port", free_port())
    command = [sys.executable, "-m", "fleetloop", "hub", *map(str, arguments)]
    second = subprocess.run(command, capture_output=True, timeout=PATIENCE_S)
    assert second.returncode == 2
    assert b"another hub uses" in second.stderr + second.stdout
    assert hub.api("GET", "/health")["status"] == "ok"


def test_beyond_loopback_only_with_tls() -> None:
    """Refused before anything is opened."""
    with pytest.raises(SettingsError, match="without TLS"):
        check(Settings(host="0.0.0.0"))
    check(Settings(host="::1"))
    check(Settings(host="0.0.0.0", tls_certificate="c.pem", tls_key="k.pem"))


def test_sigterm_ends_it_in_order(hub: HubProcess) -> None:
    """Exit code 0 within seconds, and no child is left."""
    children = hub.children()
    assert children, "the embedded broker runs as a child"
    assert hub.end(signal.SIGTERM) == 0
    assert not [child for child in children if child.is_running()]
    hub.start()
