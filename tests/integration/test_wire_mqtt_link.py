"""The MQTT link against a real broker: delivery, last will, retained pull, coming back after the broker was killed."""

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.servers.plain_broker import BrokerProcess
from wire.adapters import paho_connection
from wire.adapters.mqtt_link import Credentials, MqttLink, Will
from wire.identity import Broker
from wire.ports import Inbound, LinkError


@pytest.fixture
def broker() -> Iterator[BrokerProcess]:
    """A running broker."""
    process = BrokerProcess()
    yield process
    process.kill()


class Client:
    """A link with its messages in a queue and its ups and downs as events."""

    def __init__(self, broker: BrokerProcess, name: str, will: Will | None = None) -> None:
        self.link = MqttLink(broker.address, Credentials(name, "secret"), will=will)
        self.received: asyncio.Queue[Inbound] = asyncio.Queue()
        self.up, self.down = asyncio.Event(), asyncio.Event()
        self.link.on_message = self._on_message
        self.link.on_up = self.up.set
        self.link.on_down = lambda reason: self.down.set()

    def _on_message(self, message: Inbound) -> None:
        message.ack()
        self.received.put_nowait(message)

    async def next(self) -> Inbound:
        """The next message, or fail after five seconds."""
        return await asyncio.wait_for(self.received.get(), 5)


@contextlib.asynccontextmanager
async def connected(*clients: Client) -> AsyncIterator[None]:
    """Start all, wait until they are up, stop all at the end."""
    for client in clients:
        await client.link.start()
        await asyncio.wait_for(client.up.wait(), 5)
    try:
        yield
    finally:
        for client in clients:
            await client.link.stop()


def test_large_messages_arrive_whole(broker: BrokerProcess) -> None:
    """Sixteen 60 KiB messages published at once arrive complete and in order."""

    async def scenario() -> None:
        sender, receiver = Client(broker, "sender"), Client(broker, "receiver")
        await receiver.link.subscribe("t/#")
        payloads = [os.urandom(60 * 1024) for _ in range(16)]
        async with connected(receiver, sender):
            await asyncio.gather(*(sender.link.publish(f"t/{i}", data) for i, data in enumerate(payloads)))
            assert [(await receiver.next()).payload for _ in payloads] == payloads

    asyncio.run(scenario())


def test_retained_message_reaches_a_late_subscriber(broker: BrokerProcess) -> None:
    """Subscribing to an exact retained topic is a pull."""

    async def scenario() -> None:
        sender, receiver = Client(broker, "sender"), Client(broker, "receiver")
        async with connected(receiver, sender):
            await sender.link.publish("blob/1", b"chunk", retain=True)
            await receiver.link.subscribe("blob/1")
            message = await receiver.next()
            assert (message.payload, message.retained) == (b"chunk", True)

    asyncio.run(scenario())


def test_receiving_leaves_nothing_for_the_garbage_collector(broker: BrokerProcess) -> None:
    """Objects that refer to one another stay until it runs, and it runs the more rarely the more there is to keep."""

    async def scenario() -> None:
        sender, receiver = Client(broker, "sender"), Client(broker, "receiver")
        await receiver.link.subscribe("t")
        async with connected(receiver, sender):
            gc.collect()
            gc.disable()
            try:
                for _ in range(50):
                    await sender.link.publish("t", b"x")
                    await receiver.next()
                left = gc.collect()
            finally:
                gc.enable()
            assert left < 50

    asyncio.run(scenario())


def test_what_a_broker_does_not_acknowledge_in_time_is_an_error(
    broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each by its own time, though one timer serves them all; later acknowledgements are taken as ever."""
    monkeypatch.setattr(paho_connection, "ACK_TIMEOUT_S", 0.4)

    async def scenario() -> None:
        client = Client(broker, "client")
        async with connected(client):
            broker.process.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            first = asyncio.create_task(client.link.publish("t", b"1"))
            await asyncio.sleep(0.2)
            second = asyncio.create_task(client.link.publish("t", b"2"))
            for publishing, least_s in ((first, 0.4), (second, 0.6)):
                with pytest.raises(LinkError, match="not acknowledged within"):
                    await publishing
                assert time.monotonic() - began >= least_s
            broker.process.send_signal(signal.SIGCONT)
            await client.link.publish("t", b"3")

    asyncio.run(scenario())


def test_last_will_is_published_when_the_process_dies(broker: BrokerProcess) -> None:
    """A client that vanishes without a DISCONNECT is announced."""
    dying = """
import asyncio
from wire.adapters.mqtt_link import Credentials, MqttLink, Will
from wire.identity import Broker
async def main():
    link = MqttLink(Broker(host="127.0.0.1", port=PORT), Credentials("dying", "x"), will=Will("w", b"gone"))
    link.on_up = lambda: print("up", flush=True)
    await link.start()
    await asyncio.Event().wait()
asyncio.run(main())
"""

    async def scenario() -> None:
        watcher = Client(broker, "watcher")
        await watcher.link.subscribe("w")
        async with connected(watcher):
            command = [sys.executable, "-c", dying.replace("PORT", str(broker.port))]
            process = subprocess.Popen(command, stdout=subprocess.PIPE)
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == b"up\n"
            process.kill()
            process.communicate()
            assert (await watcher.next()).payload == b"gone"

    asyncio.run(scenario())


def test_comes_back_after_the_broker_was_killed_with_its_subscriptions(broker: BrokerProcess) -> None:
    """A new broker that knows nothing gets the subscriptions again, and what happened is said through the callbacks."""

    async def scenario() -> None:
        client = Client(broker, "client")
        await client.link.subscribe("t")
        async with connected(client):
            broker.kill()
            await asyncio.wait_for(client.down.wait(), 5)
            with pytest.raises(LinkError, match="not connected"):
                await client.link.publish("t", b"lost")
            client.up.clear()
            broker.start()
            await asyncio.wait_for(client.up.wait(), 10)
            await client.link.publish("t", b"back")
            assert (await client.next()).payload == b"back"

    asyncio.run(scenario())


def test_publish_in_flight_fails_when_the_broker_dies(broker: BrokerProcess) -> None:
    """A publish that the broker never acknowledged is an error, not a success."""

    async def scenario() -> None:
        client = Client(broker, "client")
        async with connected(client):
            broker.process.send_signal(signal.SIGSTOP)
            publishing = asyncio.create_task(client.link.publish("t", b"x"))
            await asyncio.sleep(0)
            broker.kill()
            with pytest.raises(LinkError):
                await asyncio.wait_for(publishing, 5)

    asyncio.run(scenario())


def test_a_quiet_link_stays_and_one_whose_broker_fell_silent_is_lost(broker: BrokerProcess) -> None:
    """Pings go out by themselves, and one that is not answered ends the connection."""

    async def scenario() -> None:
        client = Client(broker, "client")
        client.link = MqttLink(broker.address, Credentials("client", "secret"), keepalive_s=1)
        client.link.on_up, client.link.on_down = client.up.set, lambda reason: client.down.set()
        async with connected(client):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.down.wait(), 2.5)
            broker.process.send_signal(signal.SIGSTOP)
            await asyncio.wait_for(client.down.wait(), 5)
            broker.process.send_signal(signal.SIGCONT)

    asyncio.run(scenario())


def test_a_receiver_that_raises_does_not_stop_the_link(broker: BrokerProcess, caplog: pytest.LogCaptureFixture) -> None:
    """The defect is logged, and later messages still arrive."""

    async def scenario() -> None:
        client = Client(broker, "client")
        await client.link.subscribe("t")
        receive = client.link.on_message

        def fail_once(message: Inbound) -> None:
            client.link.on_message = receive
            raise ValueError("defect")

        client.link.on_message = fail_once
        async with connected(client):
            await client.link.publish("t", b"first")
            await client.link.publish("t", b"second")
            assert (await client.next()).payload == b"second"

    asyncio.run(scenario())
    assert "receiving t failed" in caplog.text


def test_stopping_at_any_moment_ends(broker: BrokerProcess) -> None:
    """Stop right after start, a hundred times, at different points of connecting: it always returns."""

    async def scenario() -> None:
        for number in range(100):
            client = Client(broker, f"client-{number}")
            await client.link.start()
            for _ in range(number):
                await asyncio.sleep(0)
            await asyncio.wait_for(client.link.stop(), 5)

    asyncio.run(scenario())


CONNACK, DISCONNECT = b"\x20\x02\x00\x00", b"\xe0\x00"


class StrangeBroker:
    """Speaks just enough MQTT to misbehave: `silent` connections get no answer, later ones get `then` after CONNACK."""

    def __init__(self, *, silent: int = 0, then: bytes = b"") -> None:
        self.connections = 0
        self.heard = bytearray()
        self._silent = silent
        self._then = then

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        if self.connections > self._silent:
            writer.write(CONNACK + self._then)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(4096):
                self.heard += data
        writer.close()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[MqttLink]:
        """A link to this broker, not started; stopped at the end."""
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        link = MqttLink(Broker(host="127.0.0.1", port=server.sockets[0].getsockname()[1]), Credentials("c", "x"))
        try:
            yield link
        finally:
            await link.stop()
            server.close()


def test_a_broker_that_did_not_answer_once_is_not_held_against_the_next_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The socket given up for want of a CONNACK must not be taken for the new one when it is closed."""
    monkeypatch.setattr(paho_connection, "CONNECT_TIMEOUT_S", 0.3)

    async def scenario() -> None:
        strange = StrangeBroker(silent=1)
        async with strange.listening() as link:
            ups, downs = asyncio.Event(), list[str]()
            link.on_up, link.on_down = ups.set, downs.append
            await link.start()
            await asyncio.wait_for(ups.wait(), 5)
            await asyncio.sleep(1)
            assert (link.connected, downs, strange.connections) == (True, [], 2)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "packet",
    [b"\x30\x04\x00\x02\xff\xfe", b"\x30\x01\x00", b"\x32\x03\x00\x01t"],
    ids=["topic is not UTF-8", "publish without a topic", "publish without a message id"],
)
def test_a_malformed_packet_ends_the_connection_and_not_the_program(packet: bytes) -> None:
    """The reader does not spin on it: the loop stays responsive, and the link connects anew with pauses."""

    async def scenario() -> None:
        strange = StrangeBroker(then=packet)
        async with strange.listening() as link:
            turns: list[object] = []
            link.on_message = turns.append
            await link.start()
            await asyncio.sleep(1.5)
            assert 2 <= strange.connections < 20
            assert turns == []

    asyncio.run(scenario())


def test_stopping_says_goodbye() -> None:
    """A clean stop sends DISCONNECT, so that the broker does not publish the last will."""

    async def scenario() -> None:
        strange = StrangeBroker()
        async with strange.listening() as link:
            up = asyncio.Event()
            link.on_up = up.set
            await link.start()
            await asyncio.wait_for(up.wait(), 5)
            await link.stop()
            await asyncio.sleep(0.2)
            assert strange.heard.endswith(DISCONNECT)

    asyncio.run(scenario())
