"""paho-mqtt driven from asyncio: no thread of its own, any number of clients in one process.

paho's `loop_start` waits in select(), which breaks beyond 1,024 open files; here the event loop watches the socket and
calls paho's `loop_read`, `loop_write` and `loop_misc`. Only connecting (DNS, TCP, TLS) blocks, in a worker thread.
"""

import asyncio
import contextlib
import functools
import logging
import random
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from wire.identity import Broker
from wire.ports import Inbound, LinkError

log = logging.getLogger(__name__)

MAX_FILTERS = 8
"""Filters per SUBSCRIBE that every broker takes."""
CONNECT_TIMEOUT_S = 10.0
ACK_TIMEOUT_S = 30.0
MISC_EVERY_S = 1.0
"""How often keep-alive is looked after."""
FIRST_RETRY_S = 0.25
LAST_RETRY_S = 20.0
STOPPED = "stopped"


@dataclass(frozen=True)
class Credentials:
    """Who connects. The client id is the username unless given, so nobody can take another's session over."""

    username: str
    password: str
    client_id: str = ""


@dataclass(frozen=True)
class Will:
    """What the broker publishes, retained, when the connection breaks."""

    topic: str
    payload: bytes


class MqttLink:
    """The `wire.ports.Link` of real programs: MQTT 3.1.1, QoS 1, persistent session, manual acknowledgement."""

    def __init__(
        self, broker: Broker, credentials: Credentials, *, will: Will | None = None, keepalive_s: int = 20
    ) -> None:
        self.on_message: Callable[[Inbound], None] = lambda message: message.ack()
        self.on_up: Callable[[], None] = lambda: None
        self.on_down: Callable[[str], None] = lambda reason: None
        self._broker = broker
        self._keepalive_s = keepalive_s
        self._filters: dict[str, None] = {}
        self._pending: dict[int, asyncio.Future[None]] = {}
        self._connected = False
        self._connection = 0
        self._last_reason = ""
        """Said once: the same reason again while trying goes to the debug log."""
        self._runner: asyncio.Task[None] | None = None
        self._down = asyncio.Event()
        self._connack: asyncio.Future[ReasonCode] | None = None
        self._client = self._make_client(credentials, will)

    @property
    def connected(self) -> bool:
        """Has the broker accepted us, and is the connection still there?"""
        return self._connected

    async def start(self) -> None:
        """Begin to connect; goes on for ever with growing, jittered pauses."""
        if self._runner is None:
            self._runner = asyncio.create_task(self._run(), name="mqtt-link")

    async def stop(self) -> None:
        """Disconnect cleanly and stop."""
        if self._runner is None:
            return
        self._runner.cancel()
        await asyncio.gather(self._runner, return_exceptions=True)
        self._runner = None
        if self._connected:
            self._client.disconnect()
            self._client.loop_write()  # at once: the socket is closed next
        self._forget_connection(STOPPED)

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish with QoS 1 and wait for the broker's acknowledgement.

        Raises:
            LinkError: there is no connection, it broke, or the acknowledgement did not come in time.
        """
        if not self._connected:
            raise LinkError(f"not connected to {self._broker.host}:{self._broker.port}")
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise LinkError(f"publish to {topic} failed: {mqtt.error_string(info.rc)}")
        await self._acknowledged(info.mid, f"publish to {topic}")

    async def subscribe(self, *filters: str) -> None:
        """Subscribe (QoS 1); kept for the next connection when there is none now."""
        self._filters.update(dict.fromkeys(filters))
        if self._connected:
            await self._subscribe_now(filters)

    async def unsubscribe(self, *filters: str) -> None:
        """Drop subscriptions."""
        for one in filters:
            self._filters.pop(one, None)
        if self._connected and filters:
            _, mid = self._client.unsubscribe(list(filters))
            if mid is not None:
                await self._acknowledged(mid, "unsubscribe")

    # The connection's life.

    def _make_client(self, credentials: Credentials, will: Will | None) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=credentials.client_id or credentials.username,
            clean_session=False,
            protocol=mqtt.MQTTv311,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        client.username_pw_set(credentials.username, credentials.password)
        client.max_inflight_messages_set(100)
        client.connect_timeout = CONNECT_TIMEOUT_S
        if self._broker.ca_pem:
            client.tls_set_context(ssl.create_default_context(cadata=self._broker.ca_pem))
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = client.on_unsubscribe = self._on_ack
        client.on_subscribe = self._on_subscribed
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_register_write
        client.on_socket_unregister_write = self._on_unregister_write
        return client

    async def _run(self) -> None:
        pause = FIRST_RETRY_S
        while True:
            reason = await self._connect_once()
            if not reason:
                pause = FIRST_RETRY_S
                reason = await self._serve()
            self._forget_connection(reason)
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(LAST_RETRY_S, pause * 2)

    async def _connect_once(self) -> str:
        """Empty when the broker has accepted us, else why not."""
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._connection += 1
        self._connack = loop.create_future()
        broker = self._broker
        try:
            await loop.run_in_executor(None, self._client.connect, broker.host, broker.port, self._keepalive_s)
            self._down.clear()  # not before: connecting closes the socket of the time before, which sets it
            sock = self._client.socket()
            if sock is None:
                return "connection closed at once"
            self._watch(sock)
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                code = await self._connack
        except TimeoutError:
            return "broker did not answer in time"
        except (OSError, ssl.SSLError, ValueError) as error:
            return f"cannot connect to {broker.host}:{broker.port}: {error}"
        return f"broker refused the connection: {code}" if code.is_failure else ""

    async def _serve(self) -> str:
        """Run the established connection until it ends; returns why it ended."""
        self._connected = True
        self._last_reason = ""
        try:
            await self._subscribe_now(tuple(self._filters))
        except LinkError as error:
            return str(error)
        self.on_up()
        while not self._down.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MISC_EVERY_S):
                    await self._down.wait()
            if self._client.loop_misc() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                break
        return "connection lost"

    def _forget_connection(self, reason: str) -> None:
        was_connected, self._connected = self._connected, False
        sock = self._client.socket()
        if sock is not None:
            self._unwatch(sock)
            sock.close()
        for future in self._pending.values():
            if not future.done():
                future.set_exception(LinkError(reason))
        self._pending.clear()
        if was_connected:
            self.on_down(reason)
        known = reason in (self._last_reason, STOPPED)
        log.log(logging.DEBUG if known else logging.WARNING, "mqtt: %s", reason)
        self._last_reason = reason

    async def _subscribe_now(self, filters: tuple[str, ...]) -> None:
        for start in range(0, len(filters), MAX_FILTERS):
            part = [(one, 1) for one in filters[start : start + MAX_FILTERS]]
            _, mid = self._client.subscribe(part)
            if mid is None:
                raise LinkError("connection lost while subscribing")
            await self._acknowledged(mid, f"subscription to {part[0][0]}")

    async def _acknowledged(self, mid: int, what: str) -> None:
        future = self._pending.setdefault(mid, asyncio.get_running_loop().create_future())
        try:
            async with asyncio.timeout(ACK_TIMEOUT_S):
                await future
        except TimeoutError as error:
            raise LinkError(f"{what} was not acknowledged within {ACK_TIMEOUT_S:.0f} s") from error
        finally:
            self._pending.pop(mid, None)

    # Socket readiness. `connect` runs in a worker thread, so paho's socket callbacks only record; `_watch` registers.

    def _watch(self, sock: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop.add_reader(sock, self._readable)
        if self._client.want_write():
            self._loop.add_writer(sock, self._client.loop_write)

    def _unwatch(self, sock: Any) -> None:
        if sock.fileno() >= 0:
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)

    def _readable(self) -> None:
        """Read what there is; TLS may hold decrypted bytes that no readiness event will announce."""
        sock: Any = self._client.socket()
        try:
            while self._client.loop_read(100) == MQTTErrorCode.MQTT_ERR_SUCCESS:
                if self._client.socket() is None or not (hasattr(sock, "pending") and sock.pending()):
                    return
        except Exception:  # a malformed packet: paho would choke on it again at every event
            log.exception("mqtt: cannot read what %s sent", self._broker.host)
            self._unwatch(sock)
            self._down.set()

    def _on_socket_close(self, client: mqtt.Client, userdata: object, sock: Any) -> None:
        self._unwatch(sock)
        self._down.set()

    def _on_register_write(self, client: mqtt.Client, userdata: object, sock: Any) -> None:
        if self._watched_here():
            self._loop.add_writer(sock, self._client.loop_write)

    def _on_unregister_write(self, client: mqtt.Client, userdata: object, sock: Any) -> None:
        if self._watched_here() and sock.fileno() >= 0:
            self._loop.remove_writer(sock)

    def _watched_here(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    # paho's callbacks, all on the event loop.

    def _on_connect(self, client: mqtt.Client, userdata: object, flags: Any, code: ReasonCode, properties: Any) -> None:
        if self._connack is not None and not self._connack.done():
            self._connack.set_result(code)

    def _on_disconnect(
        self, client: mqtt.Client, userdata: object, flags: Any, code: ReasonCode, properties: Any
    ) -> None:
        self._down.set()

    def _on_message(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        topic, mid, qos, connection = message.topic, message.mid, message.qos, self._connection
        ack = functools.partial(self._ack, connection, mid, qos)
        try:
            self.on_message(Inbound(topic, bytes(message.payload), message.retain, ack))
        except Exception:  # a defect of the receiver; the connection is not to blame
            log.exception("mqtt: receiving %s failed", topic)

    def _ack(self, connection: int, mid: int, qos: int) -> None:
        """A message of an earlier connection comes again on this one and is acknowledged then."""
        if connection == self._connection:
            self._client.ack(mid, qos)

    def _on_subscribed(
        self, client: mqtt.Client, userdata: object, mid: int, codes: Sequence[ReasonCode], properties: Any
    ) -> None:
        refused = sum(code.is_failure for code in codes)
        if refused:
            log.warning("mqtt: the broker refused %d of %d subscriptions: check its access rules", refused, len(codes))
        self._on_ack(client, userdata, mid)

    def _on_ack(self, client: mqtt.Client, userdata: object, mid: int, *_: Any) -> None:
        future = self._pending.get(mid)
        if future is not None and not future.done():
            future.set_result(None)
