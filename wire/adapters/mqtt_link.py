"""paho-mqtt driven from asyncio: no thread of its own, any number of clients in one process.

paho's `loop_start` waits in select(), which breaks beyond 1,024 open files; here the event loop watches the socket and
calls paho's `loop_read`, `loop_write` and `loop_misc`. Only connecting (DNS, TCP, TLS) blocks, in a worker thread.
A broker that says no is asked again ever more rarely; one that cannot be reached is tried every 20 s.
"""

import asyncio
import contextlib
import functools
import logging
import os
import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from wire.adapters.tls import client_context, present
from wire.identity import Broker
from wire.ports import Inbound, LinkError, LoginRefusedError

log = logging.getLogger(__name__)

MAX_FILTERS = 8
"""Filters per SUBSCRIBE that every broker takes."""
CONNECT_TIMEOUT_S = 10.0
ACK_TIMEOUT_S = 30.0
CHANGE_TIMEOUT_S = 3 * CONNECT_TIMEOUT_S
MISC_EVERY_S = 1.0
"""How often keep-alive is looked after."""
FIRST_RETRY_S = 0.25
LAST_RETRY_S = 20.0
LAST_REFUSED_RETRY_S = 300.0
GOODBYE_TIMEOUT_S = 1.0
STOPPED, ANEW = "stopped", "logging in anew"


@dataclass(frozen=True)
class Credentials:
    """Who connects, by a password or by a certificate for a key (both PEM), whose common name is then the username.

    The client id is the username unless given, so nobody can take another's session over.
    """

    username: str
    password: str = field(default="", repr=False)
    client_id: str = ""
    certificate: str = ""
    key: str = field(default="", repr=False)


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
        self._credentials = credentials
        self._keepalive_s = keepalive_s
        self._filters: dict[str, None] = {}
        self._pending: dict[int, asyncio.Future[None]] = {}
        self._connected = False
        self._connection = 0
        self._trouble = ""
        """Said once: the same again while trying goes to the debug log."""
        self._refused = False
        self._socket_error = ""
        self._changed: asyncio.Future[None] | None = None
        self._hurry = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._down = asyncio.Event()
        self._connack: asyncio.Future[None] | None = None
        self._tls = client_context(broker.ca_pem) if broker.ca_pem else None
        self._client = self._make_client(will)

    @property
    def connected(self) -> bool:
        """Has the broker accepted us, and is the connection still there?"""
        return self._connected

    @property
    def trouble(self) -> str:
        """Why there is no connection; empty while there is one, and before the first attempt has failed."""
        return "" if self._connected else self._trouble

    @property
    def refused(self) -> bool:
        """Is there no connection because the broker did not accept these credentials?"""
        return self._refused and not self._connected

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
            await self._say_goodbye()
        self._forget_connection(STOPPED)

    async def change(self, credentials: Credentials) -> None:
        """Log in anew, as the same client, and return once the broker has accepted.

        Publishes in flight fail with LinkError as when a connection breaks; the session at the broker stays, with what
        it holds for us.

        Raises:
            LoginRefusedError: the broker says no. LinkError: it could not be asked. Either way the link goes on with
                the credentials of before.
        """
        before, self._credentials = self._credentials, credentials
        self._changed = asyncio.get_running_loop().create_future()
        self._log_in_anew()
        try:
            async with asyncio.timeout(CHANGE_TIMEOUT_S):
                await self._changed
        except (TimeoutError, LinkError) as error:
            self._credentials = before
            self._log_in_anew()
            if isinstance(error, LinkError):
                raise
            raise LinkError("the broker did not answer in time") from error
        finally:
            self._changed = None

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

    def _make_client(self, will: Will | None) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._credentials.client_id or self._credentials.username,
            clean_session=False,
            protocol=mqtt.MQTTv311,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        client.max_inflight_messages_set(100)
        client.connect_timeout = CONNECT_TIMEOUT_S
        if self._tls is not None:
            client.tls_set_context(self._tls)
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = client.on_unsubscribe = self._on_ack
        client.on_subscribe = self._on_subscribed
        client.on_log = self._on_log
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
            await self._rest(pause * random.uniform(0.5, 1.5))
            pause = min(LAST_REFUSED_RETRY_S if self._refused else LAST_RETRY_S, pause * 2)

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        self._hurry.clear()

    def _log_in_anew(self) -> None:
        self._fail_pending(ANEW)
        self._down.set()
        self._hurry.set()

    async def _connect_once(self) -> str:
        """Empty when the broker has accepted us, else why not; tells who waits for a change of credentials."""
        credentials, changed = self._credentials, self._changed
        error = await self._try_to_connect(credentials)
        self._refused = isinstance(error, LoginRefusedError)
        if credentials is not self._credentials:
            return ANEW
        if changed is not None and not changed.done():
            changed.set_exception(error) if error else changed.set_result(None)
        return str(error or "")

    async def _try_to_connect(self, credentials: Credentials) -> LinkError | None:
        self._loop = asyncio.get_running_loop()
        self._connection += 1
        self._connack = self._loop.create_future()
        self._socket_error = ""
        address = f"{self._broker.host}:{self._broker.port}"
        try:
            await self._loop.run_in_executor(None, self._connect_blocking, credentials)
            self._down.clear()  # not before: connecting closes the socket of the time before, which sets it
            sock = self._client.socket()
            if sock is None:
                return LinkError("connection closed at once")
            self._watch(sock)
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._connack
        except TimeoutError:
            return LinkError("broker did not answer in time")
        except LoginRefusedError as error:
            return error
        except (OSError, ValueError, LinkError) as error:
            kind = LoginRefusedError if _is_about_our_certificate(str(error)) else LinkError
            return kind(f"cannot connect to {address}: {error}")
        return None

    def _connect_blocking(self, credentials: Credentials) -> None:
        if credentials.certificate and self._tls is not None:
            present(self._tls, credentials.certificate, credentials.key)
        else:
            self._client.username_pw_set(credentials.username, credentials.password)
        self._client.connect(self._broker.host, self._broker.port, self._keepalive_s)

    async def _serve(self) -> str:
        """Run the established connection until it ends; returns why it ended."""
        credentials = self._credentials
        self._connected = True
        self._trouble = ""
        try:
            await self._subscribe_now(tuple(self._filters))
            await self._listen()
        except LinkError as error:
            reason = str(error)
        else:
            reason = "connection lost"
        if credentials is self._credentials:
            return reason
        await self._say_goodbye()
        return ANEW

    async def _listen(self) -> None:
        self.on_up()
        while not self._down.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MISC_EVERY_S):
                    await self._down.wait()
            if self._client.loop_misc() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                break

    async def _say_goodbye(self) -> None:
        """DISCONNECT, then wait for the broker to close.

        Closing a socket that holds unread bytes resets the connection: the broker may then not see the DISCONNECT and
        publish the last will.
        """
        sock: Any = self._client.socket()
        if sock is None or sock.fileno() < 0:
            return
        with socket.socket(fileno=os.dup(sock.fileno())) as rest, contextlib.suppress(OSError, TimeoutError):
            rest.setblocking(False)
            self._down.clear()
            self._client.disconnect()
            async with asyncio.timeout(GOODBYE_TIMEOUT_S):
                await self._down.wait()  # written, behind what waited before it, and closed on our side
                while await self._loop.sock_recv(rest, 65536):
                    pass

    def _forget_connection(self, reason: str) -> None:
        was_connected, self._connected = self._connected, False
        sock = self._client.socket()
        if sock is not None:
            self._unwatch(sock)
            sock.close()
        self._fail_pending(reason)
        if was_connected:
            self.on_down(reason)
        known = reason in (self._trouble, STOPPED, ANEW)
        log.log(logging.DEBUG if known else logging.WARNING, "mqtt: %s", reason)
        self._trouble = reason

    def _fail_pending(self, reason: str) -> None:
        for future in self._pending.values():
            if not future.done():
                future.set_exception(LinkError(reason))
        self._pending.clear()

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
            if code.is_failure:
                self._connack.set_exception(LoginRefusedError(f"the broker refused the connection: {code}"))
            else:
                self._connack.set_result(None)

    def _on_disconnect(
        self, client: mqtt.Client, userdata: object, flags: Any, code: ReasonCode, properties: Any
    ) -> None:
        self._down.set()
        self._fail_pending("connection lost")
        if self._connack is not None and not self._connack.done():  # TLS 1.3 refuses a client after the handshake
            self._connack.set_exception(LinkError(self._socket_error or "closed before the broker answered"))

    def _on_log(self, client: mqtt.Client, userdata: object, level: int, text: str) -> None:
        if level == mqtt.MQTT_LOG_ERR:
            self._socket_error = text

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


def _is_about_our_certificate(error: str) -> bool:
    """A TLS alert that the broker sent because of the certificate we showed, or did not show."""
    return "alert" in error.lower() and ("certificate" in error.lower() or "unknown ca" in error.lower())
