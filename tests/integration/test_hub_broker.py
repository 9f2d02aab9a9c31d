"""The embedded broker, for real: a child process, TLS, real clients, and everything it has to refuse."""

import asyncio
import contextlib
import dataclasses
import datetime
import hashlib
import os
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

from cloud.adapters.certificates import ensure
from cloud.adapters.embedded_broker import RESTART_PAUSE_S, EmbeddedBroker, Listener
from cloud.core.access import DEVICE, ENROLMENT, HUB, Access, under
from cloud.ports import BrokerError, BrokerUser, Roster
from wire.adapters.mqtt_link import Credentials, MqttLink, Will
from wire.identity import Broker
from wire.ports import Inbound, LinkError

ROOT = "fl/1"
WAIT_S = 20.0


def user(name: str, access: Access, *, pinned: bool = True) -> BrokerUser:
    """A user whose password is its name."""
    verifier = hashlib.sha256(name.encode()).hexdigest()
    return BrokerUser(name, verifier, under(ROOT, access.publish), under(ROOT, access.receive), pinned)


USERS = {
    one.name: one
    for one in (
        user("hub", HUB),
        user("p01", DEVICE),
        user("p02", DEVICE),
        user("enrol", ENROLMENT, pinned=False),
    )
}


@contextlib.asynccontextmanager
async def running(directory: Path) -> AsyncIterator[EmbeddedBroker]:
    """A broker with TLS on a free port and four users."""
    tls = ensure(directory / "tls", ("127.0.0.1", "localhost"), datetime.datetime.now(datetime.UTC))
    listener = Listener("127.0.0.1", 0, "127.0.0.1", tls.certificate, tls.key, tls.ca_pem, grace_s=1)
    broker = EmbeddedBroker(listener, directory / "broker.log")
    await broker.start()
    try:
        await broker.admit(Roster(USERS))
        yield broker
    finally:
        await broker.stop()


class Client:
    """A link with what it received."""

    def __init__(self, endpoint: Broker, name: str, password: str | None = None, **more: object) -> None:
        will = more.get("will")
        assert will is None or isinstance(will, Will)
        credentials = Credentials(name, name if password is None else password, str(more.get("client_id", "")))
        self.link = MqttLink(endpoint, credentials, will=will, keepalive_s=int(str(more.get("keepalive_s", 20))))
        self.inbox: list[tuple[str, bytes]] = []
        self.up = asyncio.Event()
        self.changed = asyncio.Event()
        self.link.on_message = self._take
        self.link.on_up = self.up.set

    def _take(self, message: Inbound) -> None:
        self.inbox.append((message.topic, message.payload))
        self.changed.set()
        message.ack()

    async def received(self, wanted: Callable[[], bool]) -> None:
        """Return once `wanted()` holds; TimeoutError when it does not in time."""
        async with asyncio.timeout(WAIT_S):
            while not wanted():
                self.changed.clear()
                await self.changed.wait()

    async def cut(self) -> None:
        """Break the connection without saying goodbye."""
        self.link._connection.client.socket().shutdown(2)


@contextlib.asynccontextmanager
async def connected(endpoint: Broker, name: str, **more: object) -> AsyncIterator[Client]:
    """A client that the broker has accepted."""
    password = more.pop("password", None)
    client = Client(endpoint, name, None if password is None else str(password), **more)
    await client.link.start()
    try:
        async with asyncio.timeout(WAIT_S):
            await client.up.wait()
        yield client
    finally:
        await client.link.stop()


async def refused(endpoint: Broker, name: str, password: str | None = None, **more: object) -> None:
    """Assert that the broker answers these credentials with "not authorised"."""
    assert await asyncio.to_thread(answer_to, endpoint, name, password, more) == "Not authorized"


def answer_to(endpoint: Broker, name: str, password: str | None, more: dict[str, object]) -> str:
    """What the broker says to one attempt to connect, by the plainest paho client there is."""
    client_id = str(more.get("client_id", "")) or name
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id, clean_session=False, protocol=mqtt.MQTTv311)
    client.username_pw_set(name or None, (name if password is None else password) or None)
    client.tls_set_context(ssl.create_default_context(cadata=endpoint.ca_pem))
    will, answers = more.get("will"), list[str]()
    if isinstance(will, Will):
        client.will_set(will.topic, will.payload, qos=1, retain=True)
    client.on_connect = lambda client, userdata, flags, code, properties: answers.append(str(code))
    client.connect(endpoint.host, endpoint.port, keepalive=20)
    deadline = time.monotonic() + WAIT_S
    while not answers and time.monotonic() < deadline:
        client.loop(0.1)
    client.disconnect()
    return answers[0] if answers else "no answer"


def test_wrong_credentials_are_refused(tmp_path: Path) -> None:
    """Anonymous, unknown, wrong password, somebody else's client id, and a will on a foreign topic do not get in."""

    async def scenario() -> None:
        async with running(tmp_path) as broker:
            place = broker.endpoint
            await refused(place, "", "", client_id="nobody")
            await refused(place, "p09")
            await refused(place, "p01", "wrong")
            await refused(place, "p01", client_id="p02")
            await refused(place, "enrol", client_id="p01")
            for wildcard in ("+", "#", "*", "x/#"):  # would open the replies to everybody who enrols
                await refused(place, "enrol", client_id=wildcard)
            await refused(place, "p01", will=Will(f"{ROOT}/up/p02/status", b"forged"))

    asyncio.run(scenario())


def test_a_port_in_use_is_said_at_once(tmp_path: Path) -> None:
    """Not only when an answer is overdue: a restarted hub tries again while the old broker ends."""

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            broker = EmbeddedBroker(Listener("127.0.0.1", port, "localhost", patience_s=0), tmp_path / "log")
            with pytest.raises(BrokerError, match="in use"):
                await broker.start()

    asyncio.run(scenario())


def test_an_impostor_does_not_disturb_the_session_it_names(tmp_path: Path) -> None:
    """A wrong password with a live device's client id neither ends its session nor replaces its will."""

    async def scenario() -> None:
        async with running(tmp_path) as broker:
            place = broker.endpoint
            topic = f"{ROOT}/up/p01/status"
            async with connected(place, "hub") as hub, connected(place, "p01", will=Will(topic, b"gone")) as device:
                await hub.link.subscribe(f"{ROOT}/up/+/status")
                await device.link.subscribe(f"{ROOT}/dn/p01/#")
                await refused(place, "p01", "wrong", will=Will(topic, b"forged"))
                await hub.link.publish(f"{ROOT}/dn/p01/want", b"still there?")
                await device.received(lambda: len(device.inbox) > 0)
                await device.cut()
                await hub.received(lambda: len(hub.inbox) > 0)
                assert hub.inbox[0] == (topic, b"gone")

    asyncio.run(scenario())


def test_a_device_reaches_only_its_own_topics(tmp_path: Path) -> None:
    """Publishing for another device reaches nobody; subscribing to another's or to everything delivers nothing."""

    async def scenario() -> None:
        async with running(tmp_path) as broker:
            place = broker.endpoint
            async with connected(place, "hub") as hub, connected(place, "p01") as one, connected(place, "p02") as two:
                await hub.link.subscribe(f"{ROOT}/up/#")
                await hub.link.publish(f"{ROOT}/dn/p02/desired", b"secret", retain=True)
                await hub.link.publish(f"{ROOT}/blob/{'a' * 64}/0", b"chunk", retain=True)
                await two.link.subscribe(f"{ROOT}/dn/p02/#")
                for topic in (f"{ROOT}/dn/p02/desired", f"{ROOT}/dn/+/desired", "#", f"{ROOT}/blob/#", f"{ROOT}/up/#"):
                    await one.link.subscribe(topic)
                await one.link.publish(f"{ROOT}/up/p02/reported", b"forged")
                await one.link.publish(f"{ROOT}/dn/p02/desired", b"forged", retain=True)
                await one.link.publish(f"{ROOT}/up/p01/reported", b"mine")
                await one.link.subscribe(f"{ROOT}/blob/{'a' * 64}/0")
                await hub.received(lambda: len(hub.inbox) > 0)
                await one.received(lambda: len(one.inbox) > 0)
                await two.received(lambda: len(two.inbox) > 0)
                assert hub.inbox == [(f"{ROOT}/up/p01/reported", b"mine")]
                assert set(one.inbox) == {(f"{ROOT}/blob/{'a' * 64}/0", b"chunk")}
                assert set(two.inbox) == {(f"{ROOT}/dn/p02/desired", b"secret")}

    asyncio.run(scenario())


def test_reconnecting_brings_no_retained_messages_of_others(tmp_path: Path) -> None:
    """What others subscribed to stays theirs when a device comes back."""

    async def scenario() -> None:
        async with running(tmp_path) as broker:
            place = broker.endpoint
            async with connected(place, "hub") as hub, connected(place, "p02") as two:
                await hub.link.publish(f"{ROOT}/dn/p02/desired", b"for p02", retain=True)
                await hub.link.publish(f"{ROOT}/dn/p01/desired", b"for p01", retain=True)
                await two.link.subscribe(f"{ROOT}/dn/p02/desired")
                async with connected(place, "p01"):
                    pass
                async with connected(place, "p01") as one:
                    await one.link.subscribe(f"{ROOT}/dn/p01/#")
                    await one.received(lambda: len(one.inbox) > 0)
                    assert set(one.inbox) == {(f"{ROOT}/dn/p01/desired", b"for p01")}

    asyncio.run(scenario())


def test_an_oversize_packet_ends_only_its_sender(tmp_path: Path) -> None:
    """Half a megabyte in one message closes that connection, unread; the next connection works."""

    async def scenario() -> None:
        async with (
            running(tmp_path) as broker,
            connected(broker.endpoint, "hub") as hub,
            connected(broker.endpoint, "p01") as device,
        ):
            await hub.link.subscribe(f"{ROOT}/up/#")
            lost = asyncio.Event()
            device.link.on_down = lambda reason: lost.set()
            with contextlib.suppress(LinkError):
                await device.link.publish(f"{ROOT}/up/p01/telemetry", bytes(512 * 1024))
            async with asyncio.timeout(WAIT_S):
                await lost.wait()
            await hub.link.publish(f"{ROOT}/up/p02/telemetry", b"after it")
            await hub.received(lambda: len(hub.inbox) > 0)
            assert hub.inbox == [(f"{ROOT}/up/p02/telemetry", b"after it")]

    asyncio.run(scenario())


def test_silence_ends_a_connection_and_its_will_follows(tmp_path: Path) -> None:
    """A device without power sends no goodbye: after keep-alive and grace the hub hears of it."""

    async def scenario() -> None:
        topic = f"{ROOT}/up/p01/status"
        async with running(tmp_path) as broker, connected(broker.endpoint, "hub") as hub:
            await hub.link.subscribe(f"{ROOT}/up/+/status")
            async with connected(broker.endpoint, "p01", will=Will(topic, b"gone"), keepalive_s=1) as device:
                device.link._connection._look.cancel()  # its pings stop, its socket stays open
                await hub.received(lambda: len(hub.inbox) > 0)
                assert hub.inbox == [(topic, b"gone")]

    asyncio.run(scenario())


def test_subscriptions_that_come_and_go_lose_no_messages(tmp_path: Path) -> None:
    """While one client subscribes and unsubscribes as in a retained pull, another gets every message."""
    channels = ("#", "up/#", "up/+/telemetry", "up/p02/#", "+/p02/telemetry", "up/p02/telemetry")
    overlapping = tuple(f"{ROOT}/{channel}" for channel in channels)
    count = 150

    async def scenario() -> None:
        async with (
            running(tmp_path) as broker,
            connected(broker.endpoint, "hub") as hub,
            connected(broker.endpoint, "p01") as one,
            connected(broker.endpoint, "p02") as two,
        ):
            await hub.link.subscribe(*overlapping)

            async def come_and_go() -> None:
                for number in range(count):
                    topic = f"{ROOT}/blob/{'b' * 64}/{number}"
                    await one.link.subscribe(topic)
                    await one.link.unsubscribe(topic)

            async def publish() -> None:
                for number in range(count):
                    await two.link.publish(f"{ROOT}/up/p02/telemetry", str(number).encode())

            await asyncio.gather(come_and_go(), publish())
            await hub.received(lambda: len(hub.inbox) >= count * len(overlapping))
            assert {payload for _, payload in hub.inbox} == {str(number).encode() for number in range(count)}

    asyncio.run(scenario())


def test_it_comes_back_after_a_kill_on_the_same_port_with_its_users(tmp_path: Path) -> None:
    """kill -9 of the child: clients are back within seconds, without the hub doing anything."""

    async def scenario() -> None:
        async with running(tmp_path) as broker, connected(broker.endpoint, "hub") as hub:
            before, port = broker.pid, broker.endpoint.port
            assert before is not None
            hub.up.clear()
            os.kill(before, signal.SIGKILL)
            async with asyncio.timeout(20):
                await hub.up.wait()
            assert broker.pid != before
            assert broker.endpoint.port == port

    asyncio.run(scenario())


def test_it_comes_back_once_it_can_be_started_again(tmp_path: Path) -> None:
    """No file to be had for its messages (too many are open, say) is trouble for a while, not its end."""

    async def scenario() -> None:
        async with running(tmp_path) as broker, connected(broker.endpoint, "hub") as hub:
            before = broker.pid
            assert before is not None
            broker._log_file.unlink()
            broker._log_file.mkdir()
            hub.up.clear()
            os.kill(before, signal.SIGKILL)
            await asyncio.sleep(RESTART_PAUSE_S * 2)
            broker._log_file.rmdir()
            async with asyncio.timeout(20):
                await hub.up.wait()

    asyncio.run(scenario())


def test_it_ends_at_once_with_the_hub_even_while_a_client_owes_acknowledgements(tmp_path: Path) -> None:
    """The next hub wants the port: messages that nobody acknowledges must not keep it."""

    async def scenario() -> None:
        async with running(tmp_path) as broker:
            silent, hub = Client(broker.endpoint, "p01"), Client(broker.endpoint, "hub")
            silent.link.on_message = lambda message: None
            await silent.link.subscribe(f"{ROOT}/dn/p01/#")
            for client in (silent, hub):
                await client.link.start()
                await asyncio.wait_for(client.up.wait(), WAIT_S)
            for _ in range(5):
                await hub.link.publish(f"{ROOT}/dn/p01/desired", b"never acknowledged")
            process = broker._process
            assert process is not None
            assert process.stdin is not None
            process.stdin.close()
            assert await asyncio.wait_for(process.wait(), 3) == 0
            await asyncio.gather(silent.link.stop(), hub.link.stop())

    asyncio.run(scenario())


def test_a_login_that_is_taken_away_ends_the_live_connection(tmp_path: Path) -> None:
    """Its last will follows, nothing that it sends arrives, it stays out, and others notice nothing."""

    async def scenario() -> None:
        async with (
            running(tmp_path) as broker,
            connected(broker.endpoint, "hub") as hub,
            connected(broker.endpoint, "p02") as other,
        ):
            await hub.link.subscribe(f"{ROOT}/up/#")
            gone = asyncio.Event()
            async with connected(broker.endpoint, "p01", will=Will(f"{ROOT}/up/p01/status", b"gone")) as victim:
                victim.link.on_down = lambda reason: gone.set()
                users = {name: one for name, one in USERS.items() if name != "p01"}
                await broker.admit(Roster(users))
                async with asyncio.timeout(WAIT_S):
                    await gone.wait()
                with contextlib.suppress(LinkError):
                    await victim.link.publish(f"{ROOT}/up/p01/status", b"after")
                await refused(broker.endpoint, "p01")
            await other.link.publish(f"{ROOT}/up/p02/status", b"as ever")
            await hub.received(lambda: (f"{ROOT}/up/p02/status", b"as ever") in hub.inbox)
            assert hub.inbox == [(f"{ROOT}/up/p01/status", b"gone"), (f"{ROOT}/up/p02/status", b"as ever")]

    asyncio.run(scenario())


def test_a_changed_password_ends_the_connection_of_the_old_one(tmp_path: Path) -> None:
    """New hardware under an old name: whoever knew the old password is out."""

    async def scenario() -> None:
        async with running(tmp_path) as broker, connected(broker.endpoint, "p01") as old:
            gone = asyncio.Event()
            old.link.on_down = lambda reason: gone.set()
            verifier = hashlib.sha256(b"new").hexdigest()
            await broker.admit(Roster({**USERS, "p01": dataclasses.replace(USERS["p01"], verifier=verifier)}))
            async with asyncio.timeout(WAIT_S):
                await gone.wait()
            await refused(broker.endpoint, "p01")
            async with connected(broker.endpoint, "p01", password="new"):
                pass

    asyncio.run(scenario())
