"""The `wire.ports.Link` to the cloud of this world: immediate and in order."""

import asyncio
from collections.abc import Callable

from bench.crash_states.cloud import Cloud
from wire.ports import Inbound


class CloudLink:
    """One connection."""

    def __init__(self, cloud: Cloud) -> None:
        self.on_message: Callable[[Inbound], None] = lambda message: message.ack()
        self.on_up: Callable[[], None] = lambda: None
        self.on_down: Callable[[str], None] = lambda reason: None
        self._cloud = cloud
        self._connected = False
        self._filters: dict[str, None] = {}
        cloud.deliver = self.deliver

    @property
    def connected(self) -> bool:
        """Is it up?"""
        return self._connected

    async def start(self) -> None:
        """Come up with the next turn of the loop, or when the cloud is there."""
        asyncio.get_running_loop().call_later(self._cloud.far.faults.away_s, self._up)

    async def stop(self) -> None:
        """Go down."""
        self._connected = False

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Bring it to the cloud."""
        self._cloud.take(topic, payload)

    def send(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Bring it to the cloud."""
        if self._connected:
            self._cloud.take(topic, payload)

    async def subscribe(self, *filters: str) -> None:
        """Get what is retained."""
        self._filters.update(dict.fromkeys(filters))
        if self._connected:
            self._send_retained(filters)

    async def unsubscribe(self, *filters: str) -> None:
        """Forget."""
        for one in filters:
            self._filters.pop(one, None)

    def deliver(self, topic: str, payload: bytes, retained: bool = False) -> None:
        """Bring it to the device, if it subscribed."""
        if self._connected and topic in self._filters:
            message = Inbound(topic, payload, retained, lambda: self._cloud.acknowledged(topic))
            asyncio.get_running_loop().call_soon(self.on_message, message)

    def _up(self) -> None:
        self._connected = True
        self._send_retained(tuple(self._filters))
        self.on_up()

    def _send_retained(self, filters: tuple[str, ...]) -> None:
        for one in filters:
            if one in self._cloud.far.retained:
                self.deliver(one, self._cloud.far.retained[one], True)
