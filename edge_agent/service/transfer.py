"""One transfer under way: what is wanted is asked for, what arrives is stored, until all is there or it is given up."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, assert_never

from edge_agent.core.patience import Patience, Watch
from edge_agent.errors import TransferStalledError
from wire.asks import Ask, AskChunks
from wire.assignment import TransferPolicy
from wire.ports import MILLISECOND, Clock, Ids, Link, LinkError
from wire.topics import Topics
from wire.transfer.pace import Bucket
from wire.transfer.receiver import WINDOW, Complete, Output, Receiver, Rejected, Request, Sync, Write

MAX_WAITING = 4 * WINDOW
"""Payloads kept until they are looked at."""
BATCH = WINDOW // 2
"""So many are looked at together, if they come within LINGER_NS: as many as it takes for the next request."""
LINGER_NS = 20 * MILLISECOND


class Sink(Protocol):
    """Where the chunks of one object go."""

    async def write(self, offset: int, data: bytes) -> None:
        """Put `data` in its place."""

    async def sync(self, have: bytes) -> None:
        """Make what was written as safe as this sink can, and after that the bitmap of it."""


class Arrived(NamedTuple):
    """A payload for one chunk. `direct`: it was sent to this device alone."""

    chunk: int
    payload: bytes
    direct: bool


class Incoming:
    """Payloads that arrived for one object and wait to be looked at by the one who takes them."""

    __slots__ = ("_clock", "_enough", "_items", "_waiter")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._items: list[Arrived] = []
        self._enough = 1
        """So many are waited for."""
        self._waiter: asyncio.Future[None] | None = None

    def put(self, arrived: Arrived) -> None:
        """One more; a flood is dropped, since what is missing is asked for again."""
        if len(self._items) < MAX_WAITING:
            self._items.append(arrived)
            if len(self._items) >= self._enough:
                self._wake()

    async def take(self, ns: int) -> list[Arrived]:
        """All there are; if there are none, those that arrive within `ns`, the first and what comes close behind it."""
        await self._wait(1, ns)
        if self._items:
            await self._wait(BATCH, LINGER_NS)
        items, self._items = self._items, []
        return items

    async def _wait(self, count: int, ns: int) -> None:
        if len(self._items) < count:
            self._enough = count
            self._waiter = asyncio.get_running_loop().create_future()
            timer = self._clock.call_later(ns, self._wake)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@dataclass(frozen=True, slots=True)
class Line:
    """What all transfers of a device share: its link, and the bandwidth it may use."""

    link: Link
    clock: Clock
    ids: Ids
    topics: Topics
    ask: Callable[[Ask], None]
    """Sends a question to the hub, once."""
    policy: Callable[[], TransferPolicy]
    bucket: Bucket

    def wait_ns(self) -> int:
        """How long the bandwidth cap puts the next request off."""
        rate = self.policy().max_rate
        return 0 if rate is None else self.bucket.wait_ns(rate, self.clock.monotonic_ns())


class Transfer:
    """Fetches what a receiver lacks into a sink."""

    __slots__ = (
        "_done",
        "_line",
        "_problem",
        "_received",
        "_receiver",
        "_sink",
        "_subscribed",
        "_wanted",
        "_watch",
        "_writes",
        "incoming",
    )

    def __init__(self, line: Line, receiver: Receiver, sink: Sink, patience: Patience) -> None:
        self.incoming = Incoming(line.clock)
        self._line = line
        self._receiver = receiver
        self._sink = sink
        self._watch = Watch(patience, line.policy(), line.clock.monotonic_ns())
        self._wanted: list[tuple[int, bool]] = []
        self._writes: list[Write] = []
        self._subscribed: set[int] = set()
        self._done: set[int] = set()
        self._received = 0
        self._problem = ""

    async def run(self) -> int:
        """Returns the bytes downloaded. Raises TransferStalledError, and what the sink raises."""
        try:
            await self._act(self._receiver.start())
            while not self._receiver.complete:
                await self._ask()
                before = self._received
                items = await self.incoming.take(self._wait_ns())
                if items:
                    await self._act(output for arrived in items for output in self._receiver.on_chunk(*arrived))
                    await self._flush()
                await self._look(self._received - before)
        except (TransferStalledError, asyncio.CancelledError):
            for end in self._receiver.on_end():
                await self._sink.sync(end.have)
            raise
        finally:
            await self._unsubscribe(self._subscribed)
        return self._received

    async def _act(self, outputs: Iterable[Output]) -> None:
        for output in outputs:
            match output:
                case Request(indices, direct):
                    self._wanted.extend((index, direct) for index in indices)
                case Write():
                    self._writes.append(output)
                    if len(self._writes) >= self._receiver.until_sync:
                        await self._flush()
                case Sync(have):
                    await self._ask()  # so that the next chunks travel meanwhile
                    await self._sink.sync(have)
                case Rejected(reason):
                    self._problem = reason
                case Complete():
                    pass
                case _:
                    assert_never(output)

    async def _flush(self) -> None:
        writes, self._writes = self._writes, []
        for run in _runs(writes):
            await self._sink.write(run[0].offset, b"".join(one.data for one in run))
        for write in writes:
            self._received += len(write.data)
            self._done.add(write.index)
            await self._act(self._receiver.on_written(write.index))

    async def _look(self, received: int) -> None:
        """Give up if it is time to; ask again if it is time to."""
        link_up = self._line.link.connected
        verdict = self._watch.turn(received, self._line.clock.monotonic_ns(), link_up=link_up)
        if verdict and not self._receiver.complete:
            why = self._problem or ("no chunk came" if link_up else "the link is down")
            raise TransferStalledError(f"object {self._receiver.ref.sha256[:12]}: {verdict} ({why})")
        if not self._wanted and self._watch.silent():
            await self._act(self._receiver.on_silence())

    def _wait_ns(self) -> int:
        wait_ns = self._watch.wait_ns()
        return min(wait_ns, max(1, self._line.wait_ns())) if self._wanted else wait_ns

    async def _ask(self) -> None:
        """Ask for what is wanted, as far as the bandwidth cap allows, and let go of what has come."""
        pulled: list[int] = []
        direct: list[int] = []
        while self._wanted and not self._line.wait_ns():
            index, is_direct = self._wanted.pop(0)
            self._line.bucket.spend()
            (direct if is_direct else pulled).append(index)
        steps = []
        if len(self._done) >= WINDOW:
            done, self._done = self._done & self._subscribed, set()
            steps.append(self._unsubscribe(done))
        if pulled:
            steps.append(self._subscribe(pulled))
        if direct:
            self._ask_hub(direct)
        if pulled or direct:
            self._watch.asked()
        if len(steps) > 1:
            await asyncio.gather(*steps)
        elif steps:
            await steps[0]

    async def _subscribe(self, indices: list[int]) -> None:
        self._subscribed.update(indices)
        with contextlib.suppress(LinkError):  # asked again on silence, and by the link when it is up again
            await self._line.link.subscribe(*self._topics(indices))

    async def _unsubscribe(self, indices: set[int]) -> None:
        topics = self._topics(sorted(indices))
        self._subscribed = self._subscribed - indices
        if topics:
            with contextlib.suppress(LinkError):
                await self._line.link.unsubscribe(*topics)

    def _ask_hub(self, indices: list[int]) -> None:
        question = AskChunks(sha256=self._receiver.ref.sha256, indices=tuple(indices))
        self._line.ask(Ask(id=self._line.ids.new(), what=question))

    def _topics(self, indices: Iterable[int]) -> list[str]:
        return [self._line.topics.blob(self._receiver.ref.sha256, index) for index in indices]


def _runs(writes: list[Write]) -> list[list[Write]]:
    """Writes that follow one another in the file, together."""
    runs: list[list[Write]] = []
    for write in writes:
        if runs and write.offset == runs[-1][-1].offset + len(runs[-1][-1].data):
            runs[-1].append(write)
        else:
            runs.append([write])
    return runs
