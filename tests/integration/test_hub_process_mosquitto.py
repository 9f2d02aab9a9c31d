"""`fleetloop hub --broker mosquitto` as a process: a device enrols, works, renews, is revoked; the hub is killed."""

import asyncio
import contextlib
import datetime
import functools
import os
import select
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.adapters.certificates import ensure
from cloud.adapters.device_certificates import DeviceAuthority
from cloud.adapters.mosquitto_broker import MosquittoBroker, find
from cloud.adapters.mosquitto_files import Seat
from cloud.ports import Roster
from tests.samples.device_keys import csr, new_key, pem
from tests.servers.clients import Client, connected, free_port
from tests.servers.hub_process import HubProcess, keys_command
from tests.worlds.hub_world import CAPABILITIES
from wire.adapters.mqtt_link import Credentials, MqttLink
from wire.asks import Answer, Ask, AskRenewal, Renewed
from wire.codec import decode, encode
from wire.identity import ClaimFile, EnrolReply, EnrolRequest
from wire.messages import Receipt, Reported, Status
from wire.ports import LinkError
from wire.topics import Topics

pytestmark = pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed")

TOPICS = Topics()
PUBLISHER = Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex()
CUT_OFF_S = 2.0
"""How soon a revocation is in force for a live connection; a minute is promised."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A running hub whose broker is mosquitto, and which has a root of trust; a test that ends it starts it again."""
    one = HubProcess(
        tmp_path_factory.mktemp("mosquitto") / "hub", "--broker", "mosquitto", "--broker-enrol-port", free_port()
    )
    try:
        one.start()
        found(one)
        yield one
    finally:
        if one.process is not None and one.process.poll() is None:
            one.end(signal.SIGTERM)


def found(hub: HubProcess) -> None:
    """A root of trust, so that there are claim files."""
    keys_command(hub, "init", keys_dir=hub.directory.parent / "root-keys", publisher=PUBLISHER)


def claimed(hub: HubProcess, name: str) -> ClaimFile:
    """A claim file."""
    return msgspec.convert(hub.api("POST", "/claims", {"device": name}), ClaimFile)


async def enrolled(claim: ClaimFile) -> Credentials:
    """Trade token and signing request for a certificate, at the enrolment listener."""
    assert claim.enrol is not None
    key = new_key()
    way = Credentials(claim.enrol_username, claim.enrol_password, "enrol-1")
    async with connected(claim.enrol, way) as desk:
        await desk.link.subscribe(TOPICS.enrol("dn", "enrol-1"))
        await desk.link.publish(TOPICS.enrol("up", "enrol-1"), encode(EnrolRequest(token=claim.token, csr=csr(key))))
        await desk.received(TOPICS.enrol("dn", "enrol-1"))
        reply = decode(desk.inbox[-1][1], EnrolReply)
    assert reply.ok, reply.reason
    return Credentials(claim.device, certificate=reply.certificate, key=pem(key))


class Device:
    """A device that is connected."""

    def __init__(self, name: str, client: Client) -> None:
        self.name = name
        self.client = client
        self._seq = 0

    async def report(self) -> None:
        """Report, and wait for the hub's own receipt."""
        self._seq += 1
        document = Reported(seq=self._seq, sequence=0, agent="test", capabilities=CAPABILITIES)
        await self.client.link.publish(TOPICS.up(self.name, "reported"), encode(document))
        await self.client.until(lambda: self._seq in self._receipts())

    async def renew(self) -> Credentials:
        """Ask for another certificate over the working link."""
        key = new_key()
        ask = Ask(id="ask-1", what=AskRenewal(csr=csr(key)))
        await self.client.link.publish(TOPICS.up(self.name, "ask"), encode(ask))
        await self.client.received(TOPICS.dn(self.name, "answer"))
        answer = decode(self.client.inbox[-1][1], Answer)
        assert isinstance(answer.what, Renewed)
        return Credentials(self.name, certificate=answer.what.certificate, key=pem(key))

    def _receipts(self) -> list[int]:
        topic = TOPICS.dn(self.name, "receipt")
        return [decode(payload, Receipt).seq for one, payload in self.client.inbox if one == topic]


@contextlib.asynccontextmanager
async def online(claim: ClaimFile, credentials: Credentials) -> AsyncIterator[Device]:
    """Connected at the listener for certificates, and listening."""
    async with connected(claim.broker, credentials) as client:
        name = claim.device
        await client.link.subscribe(TOPICS.dn(name, "receipt"), TOPICS.dn(name, "answer"))
        yield Device(name, client)


async def api(hub: HubProcess, method: str, path: str, body: Any = None) -> Any:
    """Call the API without holding up the devices."""
    return await asyncio.to_thread(hub.api, method, path, body)


def test_from_claim_to_revocation(hub: HubProcess) -> None:
    """Token and signing request, certificate, reports, renewal; then out within seconds, and out it stays."""

    async def scenario() -> None:
        claim = claimed(hub, "p01")
        assert claim.credential == "certificate"
        credentials = await enrolled(claim)
        async with online(claim, credentials) as device:
            await device.report()
            renewed = await device.renew()
        async with online(claim, renewed) as device:
            await device.report()
            asyncio.get_running_loop().create_task(api(hub, "POST", "/devices/p01/revoke", {"reason": "stolen"}))
            async with asyncio.timeout(CUT_OFF_S):
                await device.client.down()
        before = await api(hub, "GET", "/devices/p01")
        assert before["revoked_ns"] is not None
        for one in (credentials, renewed):
            assert not await tries(claim, one)
        after = await api(hub, "GET", "/devices/p01")
        assert (after["online"], after["seen_ns"]) == (False, before["seen_ns"])
        claim = claimed(hub, "p01")
        async with online(claim, await enrolled(claim)) as device:
            await device.report()

    asyncio.run(scenario())


async def tries(claim: ClaimFile, credentials: Credentials) -> bool:
    """Does it get in and say that it is there?"""
    link = MqttLink(claim.broker, credentials)
    await link.start()
    try:
        await asyncio.sleep(1.0)
        with contextlib.suppress(Exception):
            await link.publish(TOPICS.up(claim.device, "status"), encode(Status(online=True, boot=99)), retain=True)
        return link.connected
    finally:
        await link.stop()


def test_a_killed_hub_takes_its_broker_along_and_both_come_back_with_the_revocation(hub: HubProcess) -> None:
    """The next hub finds the ports free; who was revoked is still out, who was not is heard again."""

    async def scenario() -> None:
        claim, other = claimed(hub, "p02"), claimed(hub, "p03")
        credentials, good = await enrolled(claim), await enrolled(other)
        await api(hub, "POST", "/devices/p02/revoke", {"reason": "stolen"})
        broker = next(one for one in hub.children() if "mosquitto" in one.name())
        watched = os.pidfd_open(broker.pid)
        hub.end(signal.SIGKILL)
        assert select.select([watched], [], [], 10)[0]
        os.close(watched)
        async with contextlib.AsyncExitStack() as stack:
            link = MqttLink(other.broker, good)
            await link.start()
            stack.push_async_callback(link.stop)
            await asyncio.to_thread(hub.start)
            assert not await tries(claim, credentials)
        async with online(other, good) as device:
            await device.report()

    asyncio.run(scenario())


def test_a_copied_disk_is_noticed(hub: HubProcess) -> None:
    """Two devices with the same key throw each other out; their sessions take turns, and the hub says so."""

    async def scenario() -> None:
        claim = claimed(hub, "p04")
        credentials = await enrolled(claim)
        async with contextlib.AsyncExitStack() as stack:
            for session in ("one", "two"):
                link = MqttLink(claim.broker, credentials)
                status = encode(Status(online=True, boot=7, session=session))
                link.on_up = functools.partial(_greet, link, TOPICS.up(claim.device, "status"), status)
                await link.start()
                stack.push_async_callback(link.stop)
            async with asyncio.timeout(20):
                while (await api(hub, "GET", "/devices/p04"))["clone_suspected_ns"] is None:
                    await asyncio.sleep(0.1)

    asyncio.run(scenario())


def _greet(link: MqttLink, topic: str, status: bytes) -> None:
    async def say() -> None:
        with contextlib.suppress(LinkError):
            await link.publish(topic, status, retain=True)

    _saying.append(asyncio.get_running_loop().create_task(say()))


_saying: list[asyncio.Task[None]] = []
"""Kept, so that they are not collected before they are done."""


def test_somebody_elses_broker_serves_the_fleet(tmp_path: Path) -> None:
    """It knows the hub's authority, the enrolment password and the rules; the hub and a device come in."""
    data = tmp_path / "hub"
    tls = ensure(data / "keys" / "tls", ("127.0.0.1",), datetime.datetime.now(datetime.UTC))
    authority = DeviceAuthority(data / "keys" / "tls", datetime.timedelta(days=1))
    (data / "keys" / "enrol.secret").write_text("enrol-password\n")
    ports = free_port(), free_port()
    seat = Seat("127.0.0.1", *ports, "127.0.0.1", tls, tmp_path / "theirs", TOPICS.root)
    theirs = MosquittoBroker(find(""), seat, authority, "enrol-password")
    hub = HubProcess(data, "--broker", "external", "--broker-enrol-port", ports[1])
    hub.broker_port = ports[0]

    async def scenario() -> None:
        await theirs.admit(Roster())
        await asyncio.to_thread(hub.start)
        await asyncio.to_thread(found, hub)
        claim = claimed(hub, "p01")
        async with online(claim, await enrolled(claim)) as device:
            await device.report()
        await theirs.stop()

    try:
        asyncio.run(scenario())
    finally:
        if hub.process is not None:
            hub.end(signal.SIGTERM)
