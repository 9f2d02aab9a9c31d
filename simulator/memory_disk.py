"""A disk in memory that can lose power, modelled on inodes: names and bytes become durable separately.

What a cut leaves is decided in `simulator.core.power`. Satisfies `edge_agent.ports.Disk`.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edge_agent.errors import DiskError, DiskFullError, FileMissingError
from simulator.core.memo import sha256, shared
from simulator.core.power import Content, NameChange, Unsettled, apply, one_outcome, written
from simulator.core.rng import Rng


class PowerCutError(BaseException):
    """The power went at this operation: nothing may catch this and go on."""


@dataclass(slots=True)
class Inode:
    """A file: what of it is durable, and the writes since then. The bytes are put together when somebody reads them."""

    content: Content

    @property
    def data(self) -> bytes:
        """The bytes as they are now."""
        content = self.content
        return content.durable if content.settled else written(content, content.writes)


def _raise_power_cut() -> None:
    raise PowerCutError("power cut")


class MemoryDisk:
    """The disk. Set `cut_at` to have the power fail at that operation from now; `on_cut` is what failing means.

    `turn_every`: so many operations are one turn of the loop. Each of them is a moment at which the power may fail.
    """

    def __init__(self, capacity_bytes: int = 1 << 30, turn_every: int = 1) -> None:
        self.turn_every = turn_every
        self.operations = 0
        self.cut_at: int | None = None
        self.on_cut: Callable[[], None] = _raise_power_cut
        self._capacity_bytes = capacity_bytes
        self._inodes: dict[int, Inode] = {}
        self._numbers = 0
        self._names: dict[str, int] = {}
        self._durable_names: dict[str, int] = {}
        self._changes: list[NameChange] = []

    async def read(self, path: str) -> bytes:
        """The whole file."""
        await self._step()
        return self._inode(path).data

    async def digest(self, path: str) -> str:
        """SHA-256 (hex) of the file."""
        return sha256(await self.read(path))

    async def digests(self, path: str, piece_bytes: int) -> tuple[str, ...]:
        """SHA-256 (hex) of each piece."""
        data = await self.read(path)
        pieces = (data[start : start + piece_bytes] for start in range(0, len(data), piece_bytes))
        return tuple(map(sha256, pieces))

    async def size(self, path: str) -> int:
        """Length in bytes."""
        await self._step()
        return self._inode(path).content.size

    async def create(self, path: str, size: int) -> None:
        """An empty file of `size` bytes, with its space reserved."""
        replaced = self._names.get(path)
        if size > self._free() + (0 if replaced is None else self._inodes[replaced].content.size):
            raise DiskFullError(f"{path}: no room for {size} bytes")
        number = self._add(Inode(Content(b"", size)))
        self._change(NameChange(_directory(path), path, number))
        await self._step()

    async def pwrite(self, path: str, offset: int, data: bytes) -> None:
        """Write at `offset`."""
        inode = self._inode(path)
        before = inode.content
        growth = offset + len(data) - before.size
        if growth > 0 and growth > self._free():
            raise DiskFullError(f"{path}: no room for {len(data)} bytes")
        writes = (*before.writes, (offset, shared(bytes(data))))
        inode.content = Content(before.durable, before.size + max(0, growth), writes)
        await self._step()

    async def fsync(self, path: str) -> None:
        """Make the content durable."""
        inode = self._inode(path)
        await self._step()
        inode.content = Content(shared(inode.data), inode.content.size)

    async def rename(self, source: str, target: str) -> None:
        """Rename within one directory, replacing `target`."""
        if _directory(source) != _directory(target):
            raise DiskError(f"cannot rename {source} to {target}: another directory")
        self._change(NameChange(_directory(target), target, self._number(source), source))
        await self._step()

    async def unlink(self, path: str) -> None:
        """Remove the file."""
        self._number(path)
        self._change(NameChange(_directory(path), path, None))
        await self._step()

    async def fsync_dir(self, path: str) -> None:
        """Make the names of a directory durable."""
        await self._step()
        for change in self._changes:
            if change.directory == path:
                apply(self._durable_names, change)
        self._changes = [change for change in self._changes if change.directory != path]
        used = {*self._names.values(), *self._durable_names.values(), *(change.file for change in self._changes)}
        self._inodes = {number: inode for number, inode in self._inodes.items() if number in used}

    async def list(self, path: str) -> tuple[str, ...]:
        """Names in a directory, sorted."""
        await self._step()
        return tuple(sorted(name.rpartition("/")[2] for name in self._names if _directory(name) == path))

    async def free_bytes(self) -> int:
        """Room left."""
        return self._free()

    @property
    def paths(self) -> tuple[str, ...]:
        """All files, sorted: for checks from outside, as is `peek`."""
        return tuple(sorted(self._names))

    @property
    def used_bytes(self) -> int:
        """What all files take."""
        return self._capacity_bytes - self._free()

    def peek(self, path: str) -> bytes | None:
        """What a read would give now, without being an operation: for checks from outside."""
        number = self._names.get(path)
        return None if number is None else self._inodes[number].data

    def unsettled(self) -> Unsettled:
        """What is certain of the disk at this moment, and what is not."""
        files = {number: inode.content for number, inode in self._inodes.items()}
        return Unsettled(dict(self._durable_names), tuple(self._changes), files)

    def hold(self, files: Mapping[str, bytes]) -> None:
        """Hold these files and no others, all of it durable."""
        self._inodes, self._names, self._changes, self.cut_at = {}, {}, [], None
        for path, data in files.items():
            self._names[path] = self._add(Inode(Content(data, len(data))))
        self._durable_names = dict(self._names)

    def crash(self, rng: Rng) -> None:
        """The power went and came back: decide what of everything that was not synced is there."""
        self.hold({path: left.data for path, left in one_outcome(self.unsettled(), rng).items()})

    async def _step(self) -> None:
        """One operation: a moment at which the power may go and, every so often, other tasks run."""
        self.operations += 1
        if self.cut_at is not None and self.operations >= self.cut_at:
            self.cut_at = None
            self.on_cut()
            await asyncio.get_running_loop().create_future()
        if not self.operations % self.turn_every:
            await asyncio.sleep(0)

    def _number(self, path: str) -> int:
        number = self._names.get(path)
        if number is None:
            raise FileMissingError(f"no file {path}")
        return number

    def _inode(self, path: str) -> Inode:
        return self._inodes[self._number(path)]

    def _add(self, inode: Inode) -> int:
        self._numbers += 1
        self._inodes[self._numbers] = inode
        return self._numbers

    def _change(self, change: NameChange) -> None:
        apply(self._names, change)
        self._changes.append(change)

    def _free(self) -> int:
        return self._capacity_bytes - sum([self._inodes[number].content.size for number in self._names.values()])


def _directory(path: str) -> str:
    return path.rpartition("/")[0]
