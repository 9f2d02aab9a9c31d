"""Disks in trouble: full, slow, or refusing operations. What a power cut does to a disk is `simulator.core.power`."""

import asyncio
from collections.abc import Awaitable, Callable

from edge_agent.errors import DiskError, DiskFullError
from simulator.memory_disk import MemoryDisk


class FaultyDisk(MemoryDisk):
    """A disk whose operations can be made to wait or to fail. What fails changes nothing.

    `delay` is awaited before each operation; while it is `full`, nothing can be added. `on_renamed` is told the path of
    every file that got its name by renaming, which is how records are replaced, and `on_synced` every folder whose
    names became durable.
    """

    def __init__(self, capacity_bytes: int = 1 << 30, turn_every: int = 1) -> None:
        super().__init__(capacity_bytes, turn_every)
        self.delay: Callable[[], Awaitable[None]] | None = None
        self.full = False
        self._refuse_at: int | None = None
        self._refusals = 0
        self._reads_fail = False
        self.on_refused: Callable[[], None] = lambda: None
        self.on_renamed: Callable[[str], None] = lambda path: None
        self.on_synced: Callable[[str], None] = lambda folder: None

    @property
    def fails(self) -> bool:
        """May an operation fail now?"""
        return self.full or self._refuse_at is not None

    def refuse(self, after: int, errors: int, *, reads: bool) -> None:
        """After so many more operations, let so many end with an I/O error; reading ones, too, with `reads`."""
        self._refuse_at, self._refusals, self._reads_fail = self.operations + after, errors, reads

    def repair(self) -> None:
        """No I/O errors any more."""
        self._refuse_at = None

    async def read(self, path: str) -> bytes:
        """The whole file."""
        if self._in_trouble:
            await self._meet(path, writes=False)
        return await super().read(path)

    async def size(self, path: str) -> int:
        """Length in bytes."""
        if self._in_trouble:
            await self._meet(path, writes=False)
        return await super().size(path)

    async def create(self, path: str, size: int) -> None:
        """An empty file of `size` bytes, with its space reserved."""
        if self._in_trouble:
            await self._meet(path)
        self._spend(path)
        await super().create(path, size)

    async def pwrite(self, path: str, offset: int, data: bytes) -> None:
        """Write at `offset`."""
        if self._in_trouble:
            await self._meet(path)
        self._spend(path)
        await super().pwrite(path, offset, data)

    async def fsync(self, path: str) -> None:
        """Make the content durable."""
        if self._in_trouble:
            await self._meet(path)
        await super().fsync(path)

    async def rename(self, source: str, target: str) -> None:
        """Rename within one directory, replacing `target`."""
        if self._in_trouble:
            await self._meet(source)
        await super().rename(source, target)
        self.on_renamed(target)

    async def unlink(self, path: str) -> None:
        """Remove the file."""
        if self._in_trouble:
            await self._meet(path)
        await super().unlink(path)

    async def fsync_dir(self, path: str) -> None:
        """Make the names of a directory durable."""
        if self._in_trouble:
            await self._meet(path)
        await super().fsync_dir(path)
        self.on_synced(path)

    async def free_bytes(self) -> int:
        """Room left."""
        return 0 if self.full else await super().free_bytes()

    @property
    def _in_trouble(self) -> bool:
        """May an operation have to wait or to fail now?"""
        return self.delay is not None or self._refuse_at is not None

    async def _meet(self, path: str, *, writes: bool = True) -> None:
        if self.delay is not None:
            await self.delay()
        if self._refuse_at is None or self.operations < self._refuse_at or not (writes or self._reads_fail):
            return
        if self._refusals == 0:
            self.repair()
            return
        self.operations += 1
        self._refusals -= 1
        self.on_refused()
        await asyncio.sleep(0)
        raise DiskError(f"{path}: input/output error")

    def _spend(self, path: str) -> None:
        if self.full:
            self.on_refused()
            raise DiskFullError(f"{path}: no space left on device")
