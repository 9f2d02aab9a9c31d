"""MQTT clients for tests of real brokers: links that note what they received and when they were cut."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable

from wire.adapters.mqtt_link import Credentials, MqttLink
from wire.identity import Broker
from wire.ports import Inbound

WAIT_S = 20.0


class Client:
    """A link with what it received."""

    def __init__(self, endpoint: Broker, credentials: Credentials) -> None:
        self.link = MqttLink(endpoint, credentials)
        self.inbox: list[tuple[str, bytes]] = []
        self.ups = self.downs = 0
        self._changed = asyncio.Event()
        self.link.on_message = self._take
        self.link.on_up = self._up
        self.link.on_down = self._down

    async def received(self, topic: str) -> None:
        """Return once a message on `topic` is there."""
        await self.until(lambda: any(one == topic for one, _ in self.inbox))

    async def down(self) -> None:
        """Return once the connection has ended."""
        await self.until(lambda: self.downs > 0)

    async def up_again(self) -> None:
        """Return once there is a connection again."""
        await self.until(lambda: self.ups > 1)

    async def up(self) -> None:
        """Return once there is a connection."""
        await self.until(lambda: self.ups > 0)

    async def until(self, happened: Callable[[], bool]) -> None:
        """Return once this is so; it is looked at whenever something comes in. TimeoutError when it is overdue."""
        async with asyncio.timeout(WAIT_S):
            while not happened():
                self._changed.clear()
                await self._changed.wait()

    def _take(self, message: Inbound) -> None:
        self.inbox.append((message.topic, message.payload))
        message.ack()
        self._changed.set()

    def _up(self) -> None:
        self.ups += 1
        self._changed.set()

    def _down(self, reason: str) -> None:
        self.downs += 1
        self._changed.set()


@contextlib.asynccontextmanager
async def connected(endpoint: Broker, credentials: Credentials) -> AsyncIterator[Client]:
    """A client that the broker has accepted."""
    client = Client(endpoint, credentials)
    await client.link.start()
    try:
        await client.up()
        yield client
    finally:
        await client.link.stop()


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
