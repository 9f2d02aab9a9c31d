"""What a hub in tests stands on instead of a clock, a broker and jobs: fakes of a few lines that can fail."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Literal

from cloud.ports import BrokerError, BrokerUser, JobError, JobKilledError, JobOrder, Roster
from wire.identity import Broker
from wire.ports import LinkError, Timer


class FakeClock:
    """Time stands still until it is moved."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000
        self.alarms: list[Callable[[], None]] = []
        """Calls that were put off; a test makes them."""

    def call_later(self, ns: int, call: Callable[[], None]) -> Timer:
        """Put it off until a test makes it."""
        self.alarms.append(call)
        return asyncio.get_running_loop().call_later(3600, lambda: None)

    async def sleep(self, ns: int) -> None:
        """For ever."""
        await asyncio.Event().wait()

    def now_ns(self) -> int:
        """The present."""
        return self.ns

    monotonic_ns = elapsed_ns = now_ns


class FakeLink:
    """A broker's retained store in a dict; can be down."""

    def __init__(self) -> None:
        self.connected = True
        self.retained: dict[str, bytes] = {}
        self.sent: list[tuple[str, bytes]] = []
        self.publishes_left: int | None = None
        self.on_message = lambda message: None
        self.on_up = lambda: None
        self.on_down = lambda reason: None

    async def start(self) -> None:
        """Nothing to connect."""

    async def stop(self) -> None:
        """Nothing to disconnect."""

    async def subscribe(self, *filters: str) -> None:
        """Everything arrives anyway."""

    async def unsubscribe(self, *filters: str) -> None:
        """Nothing to forget."""

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Note it, or fail when the link is (or goes) down."""
        self._publish(topic, payload, retain)

    def send(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Note it, unless the link is (or goes) down."""
        with contextlib.suppress(LinkError):
            self._publish(topic, payload, retain)

    def _publish(self, topic: str, payload: bytes, retain: bool) -> None:
        if self.publishes_left is not None:
            self.publishes_left -= 1
            self.connected = self.publishes_left >= 0
        if not self.connected:
            raise LinkError("down")
        self.sent.append((topic, payload))
        if retain and payload:
            self.retained[topic] = payload
        elif retain:
            self.retained.pop(topic, None)


class FakeControl:
    """Remembers the users it was told."""

    endpoint = Broker(host="127.0.0.1", port=1)
    enrolment: Broker | None = None
    credential: Literal["password", "certificate"] = "password"

    def __init__(self) -> None:
        self.roster = Roster()
        self.failures = 0
        """How many times it cannot be told."""

    @property
    def users(self) -> Mapping[str, BrokerUser]:
        """The newest."""
        return self.roster.users

    async def admit(self, roster: Roster) -> None:
        """In force at once, unless it fails."""
        if self.failures:
            self.failures -= 1
            raise BrokerError("the broker does not answer")
        self.roster = roster


class FakeLauncher:
    """Jobs that leave prepared files at once, or fail, or never end."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        """Module -> what its jobs leave behind."""
        self.orders: list[JobOrder] = []
        self.discarded: list[str] = []
        self.lines: list[bytes] = []
        self.failure = ""
        self.kills = 0
        """How many of its processes somebody kills."""
        self.hangs = False

    def directory(self, job: str) -> str:
        """Some path."""
        return f"/jobs/{job}"

    async def run(self, order: JobOrder) -> AsyncGenerator[bytes, None]:
        """Say the prepared lines and end as told."""
        self.orders.append(order)
        for line in self.lines:
            yield line
        if self.hangs:
            await asyncio.Event().wait()
        if self.kills:
            self.kills -= 1
            raise JobKilledError("job ended with code -9")
        if self.failure:
            raise JobError(self.failure)

    async def output(self, job: str, name: str) -> bytes:
        """A prepared file."""
        module = next(order.module for order in self.orders if order.job == job)
        if name not in self.files.get(module, {}):
            raise JobError(f"the job left no readable {name}")
        return self.files[module][name]

    async def kept(self) -> tuple[str, ...]:
        """Those of which there was an order, and which were not discarded."""
        return tuple(order.job for order in self.orders if order.job not in self.discarded)

    async def discard(self, job: str) -> None:
        """Note it."""
        self.discarded.append(job)
