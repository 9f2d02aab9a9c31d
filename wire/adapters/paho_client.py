"""A paho client as links need it: MQTT 3.1.1, persistent session, manual acknowledgement, one listener for all of it.

Its callbacks are functions, which all clients share: methods would be ten objects more for each of thousands.
"""

import ssl
from collections.abc import Sequence
from typing import Any, Protocol

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from wire.adapters.mqtt_login import Will

MAX_UNACKNOWLEDGED = 100


class Listener(Protocol):
    """Hears what paho tells."""

    def answered(self, code: ReasonCode) -> None:
        """The broker has answered the login."""

    def disconnected(self) -> None:
        """The connection is gone."""

    def received(self, message: mqtt.MQTTMessage) -> None:
        """A message arrived."""

    def acknowledged(self, mid: int) -> None:
        """The broker has what was sent with this number."""

    def subscribed(self, mid: int, codes: Sequence[ReasonCode]) -> None:
        """The broker has answered a subscription."""

    def logged(self, level: int, text: str) -> None:
        """Something in words, while `tell_in_words`."""

    def closed(self, sock: Any) -> None:
        """The socket is about to be closed."""

    def write_soon(self) -> None:
        """There is something to be sent."""

    def written(self, sock: Any) -> None:
        """Nothing is left to be sent."""


def make_client(listener: Listener, client_id: str, will: Will | None, tls: ssl.SSLContext | None) -> mqtt.Client:
    """A client that is not connected yet."""
    client = _Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=False,
        userdata=listener,
        protocol=mqtt.MQTTv311,
        manual_ack=True,
        reconnect_on_failure=False,
    )
    client.max_inflight_messages_set(MAX_UNACKNOWLEDGED)
    if tls is not None:
        client.tls_set_context(tls)
    if will is not None:
        client.will_set(will.topic, will.payload, qos=1, retain=True)
    client.on_connect = _on_connect
    client.on_disconnect = _on_disconnect
    client.on_message = _on_message
    client.on_publish = client.on_unsubscribe = _on_ack
    client.on_subscribe = _on_subscribed
    client.on_socket_close = _on_socket_close
    client.on_socket_register_write = _on_register_write
    client.on_socket_unregister_write = _on_unregister_write
    return client


def tell_in_words(client: mqtt.Client, wanted: bool) -> None:
    """Errors of connecting are told in words only; but so is every packet, which costs as long as anybody listens."""
    client.on_log = _on_log if wanted else None


class _Client(mqtt.Client):
    """One callback for all messages.

    paho looks for callbacks of single topics first, by a closure that refers to itself: with every message half a
    kilobyte for the garbage collector. Should it call this otherwise one day, it comes to `on_message` all the same.
    """

    def _handle_on_message(self, message: mqtt.MQTTMessage) -> None:
        _on_message(self, self._userdata, message)


def _on_connect(client: mqtt.Client, listener: Listener, flags: Any, code: ReasonCode, properties: Any) -> None:
    listener.answered(code)


def _on_disconnect(client: mqtt.Client, listener: Listener, flags: Any, code: ReasonCode, properties: Any) -> None:
    listener.disconnected()


def _on_log(client: mqtt.Client, listener: Listener, level: int, text: str) -> None:
    listener.logged(level, text)


def _on_message(client: mqtt.Client, listener: Listener, message: mqtt.MQTTMessage) -> None:
    listener.received(message)


def _on_subscribed(
    client: mqtt.Client, listener: Listener, mid: int, codes: Sequence[ReasonCode], properties: Any
) -> None:
    listener.subscribed(mid, codes)


def _on_ack(client: mqtt.Client, listener: Listener, mid: int, *_: Any) -> None:
    listener.acknowledged(mid)


def _on_socket_close(client: mqtt.Client, listener: Listener, sock: Any) -> None:
    listener.closed(sock)


def _on_register_write(client: mqtt.Client, listener: Listener, sock: Any) -> None:
    listener.write_soon()


def _on_unregister_write(client: mqtt.Client, listener: Listener, sock: Any) -> None:
    listener.written(sock)
