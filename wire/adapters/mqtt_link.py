"""The MQTT link of real programs: connects, keeps trying, remembers subscriptions, changes its login while it works.

A broker that says no is asked again ever more rarely; one that cannot be reached is tried every 20 s. No thread of its
own, any number of links in one process.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable

from wire.adapters.bell import Bell
from wire.adapters.mqtt_login import Credentials, Login, Will
from wire.adapters.paho_connection import CONNECT_TIMEOUT_S, PahoConnection, acknowledge
from wire.identity import Broker
from wire.ports import Inbound, LinkError, LoginRefusedError

__all__ = ["Credentials", "MqttLink", "Will"]

log = logging.getLogger(__name__)

FIRST_RETRY_S = 0.25
LAST_RETRY_S = 20.0
LAST_REFUSED_RETRY_S = 300.0
CHANGE_TIMEOUT_S = 3 * CONNECT_TIMEOUT_S
STOPPED, ANEW = "stopped", "logging in anew"


class MqttLink:
    """Implements `wire.ports.Link`."""

    def __init__(
        self,
        broker: Broker,
        credentials: Credentials,
        *,
        will: Will | None = None,
        keepalive_s: int = 20,
        source_address: str = "",
    ) -> None:
        self.on_message: Callable[[Inbound], None] = acknowledge
        self.on_up: Callable[[], None] = _nothing
        self.on_down: Callable[[str], None] = _nothing
        self._address = f"{broker.host}:{broker.port}"
        self._login = Login(credentials)
        self._filters: dict[str, None] = {}
        self._connected = False
        self._refused = False
        self._trouble = ""
        """Said once: the same again while trying goes to the debug log."""
        self._hurry = Bell()
        self._runner: asyncio.Task[None] | None = None
        client_id = credentials.client_id or credentials.username
        self._connection = PahoConnection(broker, client_id, will, keepalive_s, source_address)
        self._connection.on_message = self._on_message

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
            await self._connection.say_goodbye()
        self._forget_connection(STOPPED)

    async def change(self, credentials: Credentials) -> None:
        """Log in anew, as the same client, and return once the broker has accepted.

        Publishes in flight fail with LinkError as when a connection breaks; the session at the broker stays, with what
        it holds for us.

        Raises:
            LoginRefusedError: the broker says no. LinkError: it could not be asked. Either way the link goes on with
                the credentials of before.
        """
        await self._login.change(credentials, self._log_in_anew, CHANGE_TIMEOUT_S)

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish with QoS 1 and wait for the broker's acknowledgement.

        Raises:
            LinkError: there is no connection, it broke, or the acknowledgement did not come in time.
        """
        if not self._connected:
            raise LinkError(f"not connected to {self._address}")
        await self._connection.publish(topic, payload, retain=retain)

    def send(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish with QoS 1 and wait for nothing."""
        if self._connected:
            self._connection.send(topic, payload, retain=retain)

    async def subscribe(self, *filters: str) -> None:
        """Subscribe (QoS 1); kept for the next connection when there is none now."""
        self._filters.update(dict.fromkeys(filters))
        if self._connected:
            await self._connection.subscribe(filters)

    async def unsubscribe(self, *filters: str) -> None:
        """Drop subscriptions."""
        self._filters = {one: None for one in self._filters if one not in filters}  # a dict never shrinks by itself
        if self._connected and filters:
            await self._connection.unsubscribe(filters)

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
        self._hurry.silence()

    def _log_in_anew(self) -> None:
        self._connection.interrupt(ANEW)
        self._hurry.ring()

    async def _connect_once(self) -> str:
        """Empty when the broker has accepted us, else why not; tells who waits for a change of credentials."""
        credentials = self._login.credentials
        failure: LinkError | None = None
        try:
            await self._connection.open(credentials)
        except LinkError as error:
            failure = error
        self._refused = isinstance(failure, LoginRefusedError)
        if credentials is not self._login.credentials:
            return ANEW
        self._login.answered(failure)
        return str(failure or "")

    async def _serve(self) -> str:
        """Run the established connection until it ends; returns why it ended."""
        credentials = self._login.credentials
        self._accepted()
        reason = "connection lost"
        try:
            await self._connection.subscribe(tuple(self._filters))
            self.on_up()
            await self._connection.last()
        except LinkError as error:
            reason = str(error)
        if credentials is self._login.credentials:
            return reason
        await self._connection.say_goodbye()
        return ANEW

    def _accepted(self) -> None:
        self._connected = True
        self._trouble = ""

    def _on_message(self, message: Inbound) -> None:
        self.on_message(message)

    def _forget_connection(self, reason: str) -> None:
        was_connected, self._connected = self._connected, False
        self._connection.drop(reason)
        if was_connected:
            self.on_down(reason)
        known = reason in (self._trouble, STOPPED, ANEW)
        log.log(logging.DEBUG if known else logging.WARNING, "mqtt: %s", reason)
        self._trouble = reason


def _nothing(*_: str) -> None:
    """Nobody wants to know."""
