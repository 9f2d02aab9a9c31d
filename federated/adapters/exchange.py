"""The MQTT side of a run: tasks and retained array chunks go down, answers and updates come up.

What is decided lies in `federated.core.collection`; this adapter feeds it, performs its effects in order and counts the
payload bytes that were really published and received. `keep` is called, and must have made the answer durable, before
the device's message is acknowledged and before the device is told to forget.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, assert_never

from federated.core.collection import Collection, Effect, Keep, SendDone, SendTask, SendWant
from federated.core.issue import Answer, Instruction
from wire.codec import decode, encode
from wire.errors import TopicError, WireError
from wire.federated import Done, Down, Reply
from wire.messages import Status
from wire.ports import SECOND, Clock, Inbound, Link, LinkError, Timer
from wire.topics import Topics, Upward, UpwardChunk
from wire.transfer.chunks import count, frames

log = logging.getLogger(__name__)

TICK_NS: Final = SECOND // 4
AT_ONCE: Final = 32
"""Publishes in flight at a time."""
GOODBYE_S: Final = 10.0
"""How long the end waits for a broker that is away."""
STOP_S: Final = 3.0
"""A process whose parent is gone must not hang on its connection."""
LINK_PAUSE_NS: Final = SECOND // 2


@dataclass(frozen=True, slots=True)
class Traffic:
    """Payload bytes published to the broker and received from devices."""

    down: int = 0
    up: int = 0

    def since(self, earlier: "Traffic") -> "Traffic":
        """What came in addition."""
        return Traffic(self.down - earlier.down, self.up - earlier.up)


class Ledger(Protocol):
    """Which objects lie retained on the broker, so that a restarted run can clear them."""

    def published(self) -> dict[str, int]:
        """Digest -> number of chunks."""

    def add_published(self, sha256: str, chunks: int) -> None:
        """Note before publishing."""

    def remove_published(self, sha256: str) -> None:
        """Note after clearing."""


class MemoryLedger:
    """A ledger for runs that are not resumed."""

    def __init__(self) -> None:
        self._published: dict[str, int] = {}

    def published(self) -> dict[str, int]:
        """Digest -> number of chunks."""
        return dict(self._published)

    def add_published(self, sha256: str, chunks: int) -> None:
        """Note before publishing."""
        self._published[sha256] = chunks

    def remove_published(self, sha256: str) -> None:
        """Note after clearing."""
        self._published.pop(sha256, None)


class _Outgoing(NamedTuple):
    """A message on its way out. `sha256`: it is a retained chunk of this object, pointless once that is superseded."""

    topic: str
    payload: bytes
    sha256: str


class Exchange:
    """One run's conversation with its devices. Lives on one event loop; owns the link's callbacks."""

    def __init__(
        self,
        link: Link,
        topics: Topics,
        clock: Clock,
        collection: Collection,
        ledger: Ledger,
        keep: Callable[[Answer], None],
    ) -> None:
        self._link = link
        self._topics = topics
        self._clock = clock
        self._collection = collection
        self._ledger = ledger
        self._keep = keep
        self._devices: frozenset[str] = frozenset()
        self._objects: dict[str, bytes] = {}
        self._answers: dict[str, Answer] = {}
        self._traffic = Traffic()
        self._outgoing: deque[_Outgoing] = deque()
        self._pump: asyncio.Task[None] | None = None
        self._timer: Timer | None = None
        self._changed = asyncio.Event()
        self._failure: Exception | None = None
        self._closed = False

    @property
    def traffic(self) -> Traffic:
        """Payload bytes so far."""
        return self._traffic

    @property
    def online(self) -> frozenset[str]:
        """The run's devices that are online."""
        return self._collection.online & self._devices

    async def open(self, devices: Iterable[str]) -> None:
        """Connect and listen to these devices."""
        self._devices = frozenset(devices)
        self._link.on_message = self._on_message
        self._link.on_up = self._on_up
        await self._link.subscribe(*(self._topics.all_up(channel) for channel in ("status", "fed", "blob/#")))
        await self._link.start()
        self._tick()

    async def close(self, *, clear: bool) -> None:
        """Stop. `clear` takes this run's retained chunks off the broker and lets the last messages leave first."""
        if clear:
            await _within(GOODBYE_S, self._say_goodbye())
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        await _within(STOP_S, self._link.stop())

    async def _say_goodbye(self) -> None:
        await self.retain({})
        if self._pump is not None:
            await self._pump

    async def retain(self, objects: Mapping[str, bytes]) -> None:
        """Have exactly these objects (by digest) retained on the broker; what lies there is not sent again."""
        superseded = {sha: chunks for sha, chunks in self._ledger.published().items() if sha not in objects}
        fresh = {sha: data for sha, data in objects.items() if sha not in self._objects}
        self._objects = dict(objects)
        for sha, data in fresh.items():
            self._ledger.add_published(sha, count(len(data)))
            await self._publish_chunks(sha, list(frames(data)))
        for sha, chunks in superseded.items():
            await self._publish_chunks(sha, [b""] * chunks)
            self._ledger.remove_published(sha)

    def offer(self, instructions: Iterable[Instruction], timeout_ns: int) -> None:
        """Send instructions whose objects are retained; each will have an answer when `timeout_ns` are over."""
        now = self._clock.monotonic_ns()
        self._perform(self._collection.offer(instructions, now + timeout_ns, now))

    async def wait(self, tasks: Iterable[str]) -> None:
        """Return when each of these has its answer. Raises what `keep` raised: an answer not kept does not count."""
        wanted = tuple(tasks)
        while self._collection.outstanding(wanted):
            await self.changed()
        self._raise_failure()

    async def changed(self) -> None:
        """Return when something happened: an answer, a device that came or went, or a tick. Raises as `wait` does."""
        self._raise_failure()
        self._changed.clear()
        await self._changed.wait()
        self._raise_failure()

    def take(self, tasks: Iterable[str]) -> list[Answer]:
        """Hand over the answers that are there, in the order of `tasks`."""
        return [self._answers.pop(task) for task in tasks if task in self._answers]

    # What comes in.

    def _on_message(self, message: Inbound) -> None:
        try:
            self._dispatch(message)
        except WireError as error:
            log.warning("ignored a message on %s: %s", message.topic[:120], error)
        except Exception as error:  # not acknowledged: it comes again after a restart
            self._fail(error)
            return
        message.ack()

    def _dispatch(self, message: Inbound) -> None:
        if not message.retained:
            self._traffic = Traffic(self._traffic.down, self._traffic.up + len(message.payload))
        now = self._clock.monotonic_ns()
        match self._topics.parse(message.topic):
            case Upward(device, _) | UpwardChunk(device, _, _) if device not in self._devices:
                return
            case Upward(device, "status"):
                online = bool(message.payload) and decode(message.payload, Status).online
                self._perform(self._collection.on_status(device, online, now))
            case Upward(device, "fed"):
                self._perform(self._collection.on_reply(device, decode(message.payload, Reply), now))
            case UpwardChunk(device, sha256, index):
                self._perform(self._collection.on_chunk(device, sha256, index, message.payload, now))
            case other:
                raise TopicError(f"{type(other).__name__} is not for the aggregator")
        self._changed.set()

    def _on_up(self) -> None:
        """The broker may have lost its retained messages: publish again what devices may need."""
        for sha, data in self._objects.items():
            for index, payload in enumerate(frames(data)):
                self._send(self._topics.blob(sha, index), payload, sha)

    def _tick(self) -> None:
        if self._closed:
            return
        try:
            self._perform(self._collection.on_tick(self._clock.monotonic_ns()))
        except Exception as error:  # a run without ticks would wait for ever
            self._fail(error)
            return
        self._changed.set()
        self._timer = self._clock.call_later(TICK_NS, self._tick)

    def _fail(self, error: Exception) -> None:
        """In a callback there is nobody to raise to: the run learns of it where it waits."""
        self._failure = self._failure or error
        self._changed.set()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    # What goes out.

    def _perform(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Keep(answer):
                    self._keep(answer)
                    self._answers[answer.task] = answer
                    self._changed.set()
                case SendTask(device, task):
                    self._send(self._topics.dn(device, "fed"), encode(Down(task=task)))
                case SendDone(device, Done() as done):
                    self._send(self._topics.dn(device, "fed"), encode(Down(done=done)))
                case SendWant(device, want):
                    self._send(self._topics.dn(device, "want"), encode(want))
                case _:
                    assert_never(effect)

    def _send(self, topic: str, payload: bytes, sha256: str = "") -> None:
        self._outgoing.append(_Outgoing(topic, payload, sha256))
        if self._pump is None or self._pump.done():
            self._pump = asyncio.get_running_loop().create_task(self._drain(), name="exchange-pump")

    async def _drain(self) -> None:
        """What the link loses here is sent again by the collection's ticks."""
        while self._outgoing:
            batch = [self._outgoing.popleft() for _ in range(min(AT_ONCE, len(self._outgoing)))]
            wanted = [one for one in batch if not one.sha256 or one.sha256 in self._objects]
            await asyncio.gather(*(self._try_publish(*one) for one in wanted))

    async def _try_publish(self, topic: str, payload: bytes, sha256: str = "") -> bool:
        try:
            await self._link.publish(topic, payload, retain=bool(sha256))
        except LinkError as error:
            log.debug("publish to %s: %s", topic, error)
            return False
        self._traffic = Traffic(self._traffic.down + len(payload), self._traffic.up)
        return True

    async def _publish_chunks(self, sha256: str, payloads: list[bytes]) -> None:
        for index, payload in enumerate(payloads):
            while not await self._try_publish(self._topics.blob(sha256, index), payload, sha256):
                await self._clock.sleep(LINK_PAUSE_NS)


async def _within(seconds: float, work: Coroutine[object, object, None]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await work
