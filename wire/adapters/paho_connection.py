"""One paho-mqtt client driven from asyncio: a connection with its acknowledgements, and nothing about when to connect.

paho's `loop_start` waits in select(), which breaks beyond 1,024 open files; here the event loop watches the socket and
calls paho's `loop_read`, `loop_write` and `loop_misc`. Only connecting (DNS, TCP, TLS) blocks, in a worker thread.
"""

import asyncio
import contextlib
import functools
import logging
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from wire.adapters.bell import Bell
from wire.adapters.mqtt_login import Credentials, Will
from wire.adapters.paho_client import make_client, tell_in_words
from wire.adapters.tls import client_context, present
from wire.identity import Broker
from wire.ports import Inbound, LinkError, LoginRefusedError

log = logging.getLogger(__name__)

MAX_FILTERS = 8
"""Filters per SUBSCRIBE that every broker takes."""
CONNECT_TIMEOUT_S = 10.0
ACK_TIMEOUT_S = 30.0
GOODBYE_TIMEOUT_S = 1.0
LOOKS_PER_KEEPALIVE = 4
"""How often keep-alive is looked after: a broker hangs up after one and a half times the keep-alive."""


class _Expected(NamedTuple):
    """An acknowledgement that has to come by this time of the loop."""

    by_s: float
    future: asyncio.Future[None]


class PahoConnection:
    """One client id, one connection at a time: MQTT 3.1.1, QoS 1, persistent session, manual acknowledgement."""

    def __init__(
        self, broker: Broker, client_id: str, will: Will | None, keepalive_s: int, source_address: str = ""
    ) -> None:
        self.on_message: Callable[[Inbound], None] = acknowledge
        self._broker = broker
        self._keepalive_s = keepalive_s
        self._source_address = source_address
        self._pending: dict[int, _Expected] = {}
        """The oldest first."""
        self._overdue: asyncio.TimerHandle | None = None
        self._number = 0
        self._socket_error = ""
        self._socket_full = False
        """The loop tells when there is room again."""
        self._down = Bell()
        self._look: asyncio.TimerHandle | None = None
        self._connack: asyncio.Future[None] | None = None
        self._tls = client_context(broker.ca_pem) if broker.ca_pem else None
        self.client = make_client(self, client_id, will, self._tls)
        self.client.connect_timeout = CONNECT_TIMEOUT_S

    async def open(self, credentials: Credentials) -> None:
        """Connect and log in. Raises LoginRefusedError: the broker says no. LinkError: it could not be asked."""
        self._loop = asyncio.get_running_loop()
        self._number += 1
        self._connack = self._loop.create_future()
        self._socket_error = ""
        try:
            await self._loop.run_in_executor(None, self._connect, credentials)
            self._down.silence()  # not before: connecting closes the socket of the time before, which sets it
            sock = self.client.socket()
            if sock is None:
                raise LinkError("connection closed at once")
            self._watch(sock)
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._connack
            self._connack = None
            tell_in_words(self.client, False)
        except TimeoutError as error:
            raise LinkError("broker did not answer in time") from error
        except (OSError, ValueError) as error:
            kind = LoginRefusedError if _is_about_our_certificate(str(error)) else LinkError
            raise kind(f"cannot connect to {self._broker.host}:{self._broker.port}: {error}") from error

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Return once the broker has acknowledged. Raises LinkError."""
        info = self.client.publish(topic, payload, qos=1, retain=retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise LinkError(f"publish to {topic} failed: {mqtt.error_string(info.rc)}")
        await self._acknowledged(info.mid, f"publish to {topic}")

    def send(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Publish, and let the acknowledgement be nobody's business."""
        self.client.publish(topic, payload, qos=1, retain=retain)

    async def subscribe(self, filters: Sequence[str]) -> None:
        """Return once the broker has acknowledged. Raises LinkError."""
        for start in range(0, len(filters), MAX_FILTERS):
            part = [(one, 1) for one in filters[start : start + MAX_FILTERS]]
            _, mid = self.client.subscribe(part)
            if mid is None:
                raise LinkError("connection lost while subscribing")
            await self._acknowledged(mid, f"subscription to {part[0][0]}")

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """Return once the broker has acknowledged. Raises LinkError."""
        _, mid = self.client.unsubscribe(list(filters))
        if mid is not None:
            await self._acknowledged(mid, "unsubscribe")

    def last(self) -> Coroutine[Any, Any, None]:
        """Keep the connection alive until `drop`; the coroutine ends when it is lost, or when `interrupt` is called."""
        self._look_later()
        return self._down.wait()

    def interrupt(self, reason: str) -> None:
        """Make `last` return and what waits for an acknowledgement fail. The connection itself stays open."""
        self._fail_pending(reason)
        self._down.ring()

    async def say_goodbye(self) -> None:
        """DISCONNECT, then wait for the broker to close.

        Closing a socket that holds unread bytes resets the connection: the broker may then not see the DISCONNECT and
        publish the last will.
        """
        sock: Any = self.client.socket()
        if sock is None or sock.fileno() < 0:
            return
        with socket.socket(fileno=os.dup(sock.fileno())) as rest, contextlib.suppress(OSError, TimeoutError):
            rest.setblocking(False)
            self._down.silence()
            self.client.disconnect()
            async with asyncio.timeout(GOODBYE_TIMEOUT_S):
                await self._down.wait()  # written, behind what waited before it, and closed on our side
                while await self._loop.sock_recv(rest, 65536):
                    pass

    def drop(self, reason: str) -> None:
        """Close without a word; what waits for an acknowledgement fails."""
        if self._look is not None:
            self._look.cancel()
            self._look = None
        sock = self.client.socket()
        if sock is not None:
            self._unwatch(sock)
            sock.close()
        self._fail_pending(reason)

    def _look_later(self) -> None:
        self._look = self._loop.call_later(self._keepalive_s / LOOKS_PER_KEEPALIVE, self._look_after)

    def _look_after(self) -> None:
        """A ping when it is time for one; a connection that did not answer the one before is lost."""
        if self.client.loop_misc() == MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._look_later()
        else:
            self._down.ring()

    def _fail_pending(self, reason: str) -> None:
        for expected in self._pending.values():
            if not expected.future.done():
                expected.future.set_exception(LinkError(reason))
        self._pending.clear()
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _fail_overdue(self) -> None:
        """One timer for all: acknowledgements have the same time to come, so the oldest is the first to be late."""
        now_s, self._overdue = self._loop.time(), None
        for expected in self._pending.values():
            if expected.by_s > now_s:
                self._overdue = self._loop.call_at(expected.by_s, self._fail_overdue)
                break
            if not expected.future.done():
                expected.future.set_exception(TimeoutError())

    def _connect(self, credentials: Credentials) -> None:
        """Blocks."""
        tell_in_words(self.client, True)
        if credentials.certificate and self._tls is not None:
            present(self._tls, credentials.certificate, credentials.key)
        else:
            self.client.username_pw_set(credentials.username, credentials.password)
        self.client.connect(self._broker.host, self._broker.port, self._keepalive_s, self._source_address)

    async def _acknowledged(self, mid: int, what: str) -> None:
        by_s = self._loop.time() + ACK_TIMEOUT_S
        expected = self._pending.setdefault(mid, _Expected(by_s, self._loop.create_future()))
        if self._overdue is None:
            self._overdue = self._loop.call_at(by_s, self._fail_overdue)
        try:
            await expected.future
        except TimeoutError as error:
            raise LinkError(f"{what} was not acknowledged within {ACK_TIMEOUT_S:.0f} s") from error
        finally:
            self._pending.pop(mid, None)

    # Socket readiness. `_connect` runs in a worker thread, so paho's socket callbacks only record; `_watch` registers.

    def _watch(self, sock: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop.add_reader(sock, self._readable)
        self._wait_for_room(sock)  # and not written at once: a broker's alert is to be read first

    def _unwatch(self, sock: Any) -> None:
        if sock.fileno() >= 0:
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)
        self._socket_full = False

    def write_soon(self) -> None:
        """There is something to be sent: together with what else the present events bring."""
        if self._watched_here():
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        """Only a socket that is full is watched: to watch and unwatch costs as much as to send."""
        self.client.loop_write()
        sock: Any = self.client.socket()
        if sock is not None and self.client.want_write() and not self._socket_full:
            self._wait_for_room(sock)

    def _wait_for_room(self, sock: Any) -> None:
        self._socket_full = True
        self._loop.add_writer(sock, self.client.loop_write)

    def written(self, sock: Any) -> None:
        """Nothing is left to be sent."""
        if self._socket_full and self._watched_here() and sock.fileno() >= 0:
            self._socket_full = False
            self._loop.remove_writer(sock)

    def _readable(self) -> None:
        """Read what there is; TLS may hold decrypted bytes that no readiness event will announce."""
        sock: Any = self.client.socket()
        try:
            while self.client.loop_read(100) == MQTTErrorCode.MQTT_ERR_SUCCESS:
                if self.client.socket() is None or not (hasattr(sock, "pending") and sock.pending()):
                    return
        except Exception:  # a malformed packet: paho would choke on it again at every event
            log.exception("mqtt: cannot read what %s sent", self._broker.host)
            self._unwatch(sock)
            self._down.ring()

    def closed(self, sock: Any) -> None:
        """paho is about to close the socket."""
        self._unwatch(sock)
        self._down.ring()

    def _watched_here(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    # What paho tells, all on the event loop.

    def answered(self, code: ReasonCode) -> None:
        """The broker has answered the login."""
        if self._connack is not None and not self._connack.done():
            if code.is_failure:
                self._connack.set_exception(LoginRefusedError(f"the broker refused the connection: {code}"))
            else:
                self._connack.set_result(None)

    def disconnected(self) -> None:
        """The connection is gone."""
        self._down.ring()
        self._fail_pending("connection lost")
        if self._connack is not None and not self._connack.done():  # TLS 1.3 refuses a client after the handshake
            self._connack.set_exception(ConnectionError(self._socket_error or "closed before the broker answered"))

    def logged(self, level: int, text: str) -> None:
        """paho says why it failed in words only."""
        if level == mqtt.MQTT_LOG_ERR:
            self._socket_error = text

    def received(self, message: mqtt.MQTTMessage) -> None:
        """A message arrived."""
        topic = message.topic
        ack = functools.partial(self._ack, self._number, message.mid, message.qos)
        try:
            self.on_message(Inbound(topic, bytes(message.payload), message.retain, ack))
        except Exception:  # a defect of the receiver; the connection is not to blame
            log.exception("mqtt: receiving %s failed", topic)

    def subscribed(self, mid: int, codes: Sequence[ReasonCode]) -> None:
        """The broker has answered a subscription."""
        refused = sum(code.is_failure for code in codes)
        if refused:
            log.warning("mqtt: the broker refused %d of %d subscriptions: check its access rules", refused, len(codes))
        self.acknowledged(mid)

    def acknowledged(self, mid: int) -> None:
        """The broker has what we sent with this number."""
        expected = self._pending.get(mid)
        if expected is not None and not expected.future.done():
            expected.future.set_result(None)

    def _ack(self, number: int, mid: int, qos: int) -> None:
        """A message of an earlier connection comes again on this one and is acknowledged then."""
        if number == self._number:
            self.client.ack(mid, qos)


def acknowledge(message: Inbound) -> None:
    """What is done with a message that nobody asked for."""
    message.ack()


def _is_about_our_certificate(error: str) -> bool:
    """A TLS alert that the broker sent because of the certificate we showed, or did not show."""
    return "alert" in error.lower() and ("certificate" in error.lower() or "unknown ca" in error.lower())
