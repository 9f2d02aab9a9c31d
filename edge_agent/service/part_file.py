"""An object on its way: a file of full size, and beside it the record of which chunks are durable in it.

The record has room for two bitmaps with their checksums, written in turns: a torn one leaves the one before it. Since a
bitmap is written only when its chunks are durable, either is true, and the fuller one is the newer one. An object of a
single group has no record: it is complete before one would be due.
"""

import contextlib
import hashlib

from edge_agent.errors import DiskFullError, FileMissingError, RefusedError
from edge_agent.ports import Disk
from edge_agent.service.durable import read_if_there
from edge_agent.service.objects import FOLDER, path_of
from wire.release import ObjectRef
from wire.transfer import bitmap
from wire.transfer.chunks import CHUNK_BYTES, count

SPARE_BYTES = 4 * 1024 * 1024
"""Room that downloads leave for the records and captures."""
CHECKSUM_BYTES = 8


class PartFile:
    """What there is of one object."""

    def __init__(self, disk: Disk, ref: ObjectRef) -> None:
        self._disk = disk
        self._ref = ref
        self.path = f"{FOLDER}/.{ref.sha256}.part"
        self._record = f"{FOLDER}/.{ref.sha256}.have"
        self._row_bytes = -(-count(ref.bytes) // 8) + CHECKSUM_BYTES
        self._next_row: int | None = None
        """0 or 1; None: there is no record yet."""

    async def held(self) -> bytes:
        """The bitmap that an earlier attempt left; empty when it left nothing."""
        return await self._recorded() if await self._reserved() else b""

    async def open(self) -> bytes:
        """Reserve the space, or find what an earlier attempt left; returns the bitmap of the chunks that are held.

        Raises DiskFullError.
        """
        reserved = await self._reserved()
        free, needed = await self._disk.free_bytes(), 0 if reserved else self._ref.bytes
        if free < needed + SPARE_BYTES:
            raise DiskFullError(f"needs {needed} bytes and {SPARE_BYTES} to spare, {free} are free")
        if reserved:
            return await self._recorded()
        await self._forget()  # of an earlier file: it would vouch for chunks that are not in this one
        await self._disk.create(self.path, self._ref.bytes)
        return b""

    async def write(self, offset: int, data: bytes) -> None:
        """Put chunks in their place."""
        await self._disk.pwrite(self.path, offset, data)

    async def sync(self, have: bytes) -> None:
        """Make what was written durable, then the record of it."""
        await self._disk.fsync(self.path)
        row = self._next_row or 0
        if self._next_row is None:
            await self._disk.create(self._record, 2 * self._row_bytes)
        await self._disk.pwrite(self._record, row * self._row_bytes, have + _checksum(have))
        await self._disk.fsync(self._record)
        if self._next_row is None:
            await self._disk.fsync_dir(FOLDER)
        self._next_row = 1 - row

    async def finish(self) -> None:
        """Verify the whole object and give it its name.

        Raises RefusedError on another digest. What is left of it then: the chunks that do match their digests.
        """
        digest = await self._disk.digest(self.path)
        if digest != self._ref.sha256:
            await self._keep_matching()
            raise RefusedError(f"object {self._ref.sha256[:12]}: what arrived has digest {digest[:12]}")
        await self._disk.fsync(self.path)
        await self._disk.rename(self.path, path_of(self._ref.sha256))
        await self._disk.fsync_dir(FOLDER)
        if self._next_row is not None:
            await self._disk.unlink(self._record)

    async def _keep_matching(self) -> None:
        found = await self._disk.digests(self.path, CHUNK_BYTES)
        pairs = zip(found, self._ref.chunks, strict=False)  # there may be no digests of chunks
        matching = [index for index, (one, other) in enumerate(pairs) if one == other]
        await self._forget()
        if 0 < len(matching) < len(found):
            await self.sync(bitmap.pack(matching, len(found)))
        else:
            await self._disk.unlink(self.path)

    async def _recorded(self) -> bytes:
        """The newest bitmap that was written down."""
        self._next_row, have = self._newest(await read_if_there(self._disk, self._record))
        return have

    async def _reserved(self) -> bool:
        """Did an earlier attempt reserve the space?"""
        try:
            return await self._disk.size(self.path) == self._ref.bytes
        except FileMissingError:
            return False

    async def _forget(self) -> None:
        """What is in the file counts for nothing any more, durably."""
        with contextlib.suppress(FileMissingError):
            await self._disk.unlink(self._record)
            await self._disk.fsync_dir(FOLDER)
        self._next_row = None

    def _newest(self, record: bytes | None) -> tuple[int | None, bytes]:
        """(number of the row to write next, newest bitmap) of a record."""
        if record is None:
            return None, b""
        first, second = (self._bitmap(record[row * self._row_bytes :][: self._row_bytes]) for row in (0, 1))
        return (1, first) if _fullness(first) > _fullness(second) else (0, second)

    def _bitmap(self, row: bytes) -> bytes:
        bits, checksum = row[:-CHECKSUM_BYTES], row[-CHECKSUM_BYTES:]
        return bits if len(row) == self._row_bytes and checksum == _checksum(bits) else b""


def _fullness(bits: bytes) -> int:
    return int.from_bytes(bits).bit_count()


def _checksum(bits: bytes) -> bytes:
    return hashlib.sha256(bits).digest()[:CHECKSUM_BYTES]
