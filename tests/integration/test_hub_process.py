"""The hub as a process: first start, a device over its real broker, kill -9 and back, and an orderly end."""

import asyncio
import contextlib
import datetime
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest

from cloud.adapters.certificates import ensure
from cloud.bootstrap import Running
from cloud.core.identity import digest
from cloud.main import _announce
from cloud.settings import Settings
from cloud.settings_check import SettingsError, check
from simulator.fakes.tuf_repository import new_key
from tests.servers.clients import free_port
from tests.servers.hub_process import PATIENCE_S, HubProcess, keys_command
from tests.worlds.hub_world import CAPABILITIES
from wire.adapters.mqtt_link import Credentials, MqttLink
from wire.codec import decode, encode
from wire.identity import Broker, EnrolReply, EnrolRequest
from wire.messages import Receipt, Reported, Status
from wire.ports import Inbound
from wire.topics import Topics

TOPICS = Topics()
PASSWORD = "made-by-the-device"


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
    keys_command(hub, "init", keys_dir=tmp_path / "root-keys", publisher=new_key().public_hex)
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
    """Keys and tokens, and whatever else it writes: an operator's own data directory may be open to all."""
    written = list(hub.directory.rglob("*"))
    secret = {"admin.key", "director.key", "online.key", "enrol.secret", "ca.key", "server.key", "hub.sqlite"}
    assert {path.name for path in written} >= secret
    for path in (hub.directory, *written):
        assert os.stat(path).st_mode & 0o077 == 0, path


def test_a_second_hub_on_the_same_directory_is_refused(hub: HubProcess) -> None:
    """It says so and leaves the first alone."""
    arguments = ("--data-dir", hub.directory, "--port", free_port(), "--broker-port", free_port())
    command = [sys.executable, "-m", "fleetloop", "hub", *map(str, arguments)]
    second = subprocess.run(command, capture_output=True, timeout=PATIENCE_S)
    assert second.returncode == 2
    assert b"another hub uses" in second.stderr + second.stdout
    assert hub.api("GET", "/health")["status"] == "ok"


def test_beyond_loopback_only_with_tls(tmp_path: Path) -> None:
    """Refused before anything is opened."""
    tls = ensure(tmp_path, ("hub.example.org",), datetime.datetime.now(datetime.UTC))
    with pytest.raises(SettingsError, match="without TLS"):
        check(Settings(host="0.0.0.0"))
    check(Settings(host="::1"))
    check(Settings(host="0.0.0.0", tls_certificate=str(tls.certificate), tls_key=str(tls.key)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tls_certificate": "/nowhere.pem", "tls_key": "/nowhere.key"}, "nowhere.pem"),
        ({"tls_certificate": "/nowhere.pem"}, "set both or neither"),
    ],
)
def test_unusable_tls_files_are_named_before_anything_starts(changes: dict[str, str], words: str) -> None:
    """A reason instead of a traceback."""
    with pytest.raises(SettingsError, match=words):
        check(Settings(**changes))


@pytest.mark.parametrize(
    ("option", "content", "words"),
    [
        ("--broker-host", None, "broker_host 'h\u00f6st'"),
        ("--port", None, "cannot serve the API on 127.0.0.1:{port}"),
        ("--data-dir", b"", "{file}"),
    ],
)
def test_what_keeps_it_from_starting_is_said_without_a_traceback(
    tmp_path: Path, option: str, content: bytes | None, words: str
) -> None:
    """The message names the setting or the place, and the exit code is not zero."""
    file = tmp_path / "file"
    file.write_bytes(content or b"")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        values = {"--data-dir": tmp_path / "hub", "--port": free_port(), "--broker-port": free_port()}
        bad: object = {"--broker-host": "h\u00f6st", "--port": port}.get(option, file)
        arguments = [str(part) for pair in (values | {option: bad}).items() for part in pair]
        command = [sys.executable, "-m", "fleetloop", "hub", *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode in (1, 2)
    assert "Traceback" not in ended.stderr
    assert words.format(file=file, port=port) in ended.stderr


def test_an_ipv6_address_is_announced_as_one_can_open_it(caplog: pytest.LogCaptureFixture) -> None:
    """In brackets, or its end would be taken for the port."""
    with caplog.at_level(logging.INFO):
        _announce(Settings(host="::1"), cast(Running, SimpleNamespace(page="/live/")))
    assert "http://[::1]:8600/live/" in caplog.text


def test_sigterm_ends_it_in_order(hub: HubProcess) -> None:
    """Exit code 0 within seconds, no child is left, and it says what it waits for and that it is done."""
    children = hub.children()
    assert children, "the embedded broker runs as a child"
    assert hub.end(signal.SIGTERM) == 0
    assert not [child for child in children if child.is_running()]
    said = (hub.directory.parent / "hub.log").read_text()
    places = [said.rfind(words) for words in ("SIGTERM: the hub ends", "waiting for", "the hub has ended")]
    assert places == sorted(places)
    assert places[0] >= 0
    hub.start()
