"""Fetching objects as retained chunks: subscribe to a few missing chunk topics at a time, check, store, go on.

A transfer ends when it is complete or when nothing useful came for too long; a cut link only delays it, and what was
stored on the disk before a power cut is not fetched again. At rest nothing runs here.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakValueDictionary

from edge_agent.errors import DiskFullError, RefusedError, TransferStalledError
from edge_agent.ports import Disk, Ports
from edge_agent.service.objects import SPARE_BYTES, Objects, PartFile
from wire.errors import MalformedError
from wire.ports import SECOND, Clock, Link, LinkError
from wire.release import ObjectRef
from wire.topics import Topics
from wire.transfer.receiver import WINDOW, Output, Receiver, Rejected, Request, Write

ASK_AGAIN_NS = 3 * SECOND
MAX_WAITING = 4 * WINDOW
"""Payloads kept until they are looked at."""
MAX_MEMORY_BYTES = 16 * 1024 * 1024
"""Largest object that is taken into memory."""


class Sink(Protocol):
    """Where the chunks of one object go."""

    async def store(self, writes: Iterable[Write]) -> None:
        """Hold them as safely as this sink can."""


class MemorySink:
    """An object that is needed once and not kept."""

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)

    async def store(self, writes: Iterable[Write]) -> None:
        """Copy them to their place."""
        for write in writes:
            self.data[write.offset : write.offset + len(write.data)] = write.data


class Incoming:
    """Payloads that arrived for one object and wait to be looked at."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._items: list[tuple[int, bytes]] = []
        self._woken = asyncio.Event()

    def put(self, index: int, payload: bytes) -> None:
        """One more; a flood is dropped, since what is missing is asked for again."""
        if len(self._items) >= MAX_WAITING:
            return
        self._items.append((index, payload))
        self._woken.set()

    async def take(self, ns: int) -> list[tuple[int, bytes]]:
        """All there are; if there are none, those that arrive first within `ns`."""
        timer = self._clock.call_later(ns, self._woken.set)
        try:
            await self._woken.wait()
        finally:
            timer.cancel()
        self._woken.clear()
        items, self._items = self._items, []
        return items


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a transfer may bring nothing new. `offline_counts`: also while the link is down, so it surely ends."""

    stall_s: float
    offline_counts: bool = False


class Downloads:
    """All transfers to this device."""

    def __init__(self, ports: Ports, topics: Topics, objects: Objects) -> None:
        self._link: Link = ports.link
        self._clock: Clock = ports.clock
        self._disk: Disk = ports.disk
        self._topics = topics
        self._objects = objects
        self._active: dict[str, Incoming] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def on_chunk(self, sha256: str, index: int, payload: bytes) -> None:
        """A message arrived on the topic of this chunk. Strays are dropped."""
        incoming = self._active.get(sha256)
        if incoming is not None:
            incoming.put(index, payload)

    async def fetch(self, ref: ObjectRef, patience: Patience) -> int:
        """Have the object on the disk, verified and durable; returns the bytes downloaded (0: it was there).

        Raises:
            TransferStalledError: nothing useful came for as long as `patience` allows.
            RefusedError: what came does not have the digest it should.
            DiskError: no room, or the disk failed.
        """
        async with self._alone(ref.sha256):
            if await self._objects.holds(ref.sha256):
                return 0
            part = PartFile(self._disk, ref)
            free, needed = await self._disk.free_bytes(), 0 if await part.reserved() else ref.bytes
            if free < needed + SPARE_BYTES:
                raise DiskFullError(f"needs {needed} bytes and {SPARE_BYTES} to spare, {free} are free")
            self._objects.arriving.add(ref.sha256)
            try:
                received = await self._transfer(ref, part, await part.open(), patience)
                await part.finish()
            finally:
                self._objects.arriving.discard(ref.sha256)
            return received

    async def fetch_bytes(self, ref: ObjectRef, patience: Patience) -> bytes:
        """Have the object in memory only, verified. Raises as `fetch` does."""
        if ref.bytes > MAX_MEMORY_BYTES:
            raise RefusedError(f"object of {ref.bytes} bytes, at most {MAX_MEMORY_BYTES} are taken into memory")
        async with self._alone(ref.sha256):
            sink = MemorySink(ref.bytes)
            await self._transfer(ref, sink, frozenset(), patience)
        data = bytes(sink.data)
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            raise RefusedError(f"object {ref.sha256[:12]}: what arrived has another digest")
        return data

    @contextlib.asynccontextmanager
    async def _alone(self, sha256: str) -> AsyncIterator[None]:
        """One transfer of an object at a time; the second one then finds what the first one left."""
        lock = self._locks.setdefault(sha256, asyncio.Lock())
        async with lock:
            yield

    async def _transfer(self, ref: ObjectRef, sink: Sink, have: frozenset[int], patience: Patience) -> int:
        try:
            receiver = Receiver(ref, have)
        except MalformedError as error:
            raise RefusedError(str(error)) from error
        incoming = self._active[ref.sha256] = Incoming(self._clock)
        try:
            return await self._collect(receiver, incoming, sink, patience)
        finally:
            del self._active[ref.sha256]
            await self._drop(ref, receiver.outstanding)

    async def _collect(self, receiver: Receiver, incoming: Incoming, sink: Sink, patience: Patience) -> int:
        received, problem, progress_ns = 0, "", self._clock.monotonic_ns()
        stall_ns = int(patience.stall_s * SECOND)
        outputs = receiver.start()
        while not receiver.complete:
            await self._ask(receiver.ref, outputs)
            items = await incoming.take(min(ASK_AGAIN_NS, stall_ns))
            results = [output for index, payload in items for output in receiver.on_chunk(index, payload)]
            problem = next((output.reason for output in results if isinstance(output, Rejected)), problem)
            writes = [output for output in results if isinstance(output, Write)]
            if writes:
                outputs = await self._keep(receiver, sink, writes)
                received += sum(len(write.data) for write in writes)
            if writes or not (self._link.connected or patience.offline_counts):
                progress_ns = self._clock.monotonic_ns()
            elif self._clock.monotonic_ns() - progress_ns >= stall_ns:
                why = problem or ("no chunk came" if self._link.connected else "the link is down")
                name = receiver.ref.sha256[:12]
                raise TransferStalledError(f"object {name}: nothing new for {patience.stall_s:g} s ({why})")
            if not writes:
                outputs = [] if items else receiver.on_timeout()
        return received

    async def _keep(self, receiver: Receiver, sink: Sink, writes: list[Write]) -> list[Output]:
        await sink.store(writes)
        outputs = [output for write in writes for output in receiver.on_written(write.index)]
        await self._drop(receiver.ref, [write.index for write in writes])
        return outputs

    async def _ask(self, ref: ObjectRef, outputs: Iterable[Output]) -> None:
        wanted = [index for output in outputs if isinstance(output, Request) for index in output.indices]
        if wanted:
            with contextlib.suppress(LinkError):  # asked again on time-out, and by the link when it is up again
                await self._link.subscribe(*(self._topics.blob(ref.sha256, index) for index in wanted))

    async def _drop(self, ref: ObjectRef, indices: Iterable[int]) -> None:
        topics = [self._topics.blob(ref.sha256, index) for index in indices]
        if topics:
            with contextlib.suppress(LinkError):
                await self._link.unsubscribe(*topics)
