"""Fetching objects: onto the disk, verified and durable, or into memory. One transfer of an object at a time.

A cut link only delays a transfer, and what was durable before a power cut is not fetched again. At rest nothing runs.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator

from edge_agent.core.patience import Patience
from edge_agent.errors import RefusedError
from edge_agent.ports import Disk
from edge_agent.service.objects import Objects
from edge_agent.service.part_file import PartFile
from edge_agent.service.transfer import Arrived, Line, Sink, Transfer
from wire.errors import MalformedError
from wire.release import ObjectRef
from wire.transfer.receiver import Receiver

MAX_MEMORY_BYTES = 16 * 1024 * 1024
"""Largest object that is taken into memory."""


class MemorySink:
    """An object that is needed once and not kept."""

    __slots__ = ("data",)

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)

    async def write(self, offset: int, data: bytes) -> None:
        """Copy it to its place."""
        self.data[offset : offset + len(data)] = data

    async def sync(self, have: bytes) -> None:
        """A restart forgets it all."""


class Downloads:
    """All transfers to this device."""

    __slots__ = ("_active", "_disk", "_line", "_objects", "_taken")

    def __init__(self, disk: Disk, objects: Objects, line: Line) -> None:
        self._disk = disk
        self._objects = objects
        self._line = line
        self._active: dict[str, Transfer] = {}
        self._taken: dict[str, asyncio.Future[None]] = {}
        """Objects under way -> when that is over."""

    def on_chunk(self, sha256: str, index: int, payload: bytes, *, direct: bool = False) -> None:
        """A message arrived for this chunk: retained, or (`direct`) for this device alone. Strays are dropped."""
        transfer = self._active.get(sha256)
        if transfer is not None:
            transfer.incoming.put(Arrived(index, payload, direct))

    async def fetch(self, ref: ObjectRef, patience: Patience) -> int:
        """Have the object on the disk, verified and durable; returns the bytes downloaded (0: it was there).

        Raises:
            TransferStalledError: nothing useful came for as long as `patience` allows, or too little.
            RefusedError: what came does not have the digest it should.
            DiskError: no room, or the disk failed.
        """
        async with self._alone(ref.sha256):
            if await self._objects.holds(ref.sha256):
                return 0
            with self._objects.kept(ref.sha256):
                return await self._onto_disk(ref, PartFile(self._disk, ref), patience)

    async def fetch_bytes(self, ref: ObjectRef, patience: Patience) -> bytes:
        """Have the object in memory only, verified. Raises as `fetch` does."""
        if ref.bytes > MAX_MEMORY_BYTES:
            raise RefusedError(f"object of {ref.bytes} bytes, at most {MAX_MEMORY_BYTES} are taken into memory")
        async with self._alone(ref.sha256):
            sink = MemorySink(ref.bytes)
            await self._transfer(_receiver(ref), sink, patience)
        data = bytes(sink.data)
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            raise RefusedError(f"object {ref.sha256[:12]}: what arrived has another digest")
        return data

    @contextlib.asynccontextmanager
    async def _alone(self, sha256: str) -> AsyncIterator[None]:
        """One transfer of an object at a time; the second one then finds what the first one left."""
        while sha256 in self._taken:
            await asyncio.wait((self._taken[sha256],))
        over = self._taken[sha256] = asyncio.get_running_loop().create_future()
        try:
            yield
        finally:
            del self._taken[sha256]
            over.set_result(None)

    async def _onto_disk(self, ref: ObjectRef, part: PartFile, patience: Patience) -> int:
        """Every byte is hashed once, at the end. Should that fail, what is wrong comes again, checked as it arrives."""
        received = await self._transfer(_receiver(ref, await part.open(), checked=False), part, patience)
        try:
            await part.finish()
        except RefusedError:
            if not ref.chunks:
                raise
            received += await self._transfer(_receiver(ref, await part.open()), part, patience)
            await part.finish()
        return received

    async def _transfer(self, receiver: Receiver, sink: Sink, patience: Patience) -> int:
        sha256 = receiver.ref.sha256
        transfer = self._active[sha256] = Transfer(self._line, receiver, sink, patience)
        try:
            return await transfer.run()
        finally:
            del self._active[sha256]


def _receiver(ref: ObjectRef, have: bytes = b"", *, checked: bool = True) -> Receiver:
    try:
        return Receiver(ref, have, checked=checked)
    except MalformedError as error:
        raise RefusedError(str(error)) from error
