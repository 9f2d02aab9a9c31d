"""A disk in memory that can lose power, modelled on inodes: names and bytes become durable separately.

What was written and not synced may, after a power cut, be there, be gone, be torn or be zeros; of the names changed in
a directory since it was synced, a prefix survives (a journal keeps the order). Satisfies `edge_agent.ports.Disk`.
"""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from edge_agent.errors import DiskError, DiskFullError, FileMissingError
from simulator.core.rng import Rng


class PowerCutError(BaseException):
    """The power went at this operation: nothing may catch this and go on."""


@dataclass(slots=True, eq=False)
class Inode:
    """Bytes of a file: as they are now, as they are durable, and what happened in between."""

    data: bytearray
    durable: bytes = b""
    pending: list[tuple[int, bytes]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class NameChange:
    """In `directory`, `name` now means `inode` (None: nothing); `source` is the name it was renamed from."""

    directory: str
    name: str
    inode: Inode | None
    source: str = ""


def _raise_power_cut() -> None:
    raise PowerCutError("power cut")


class MemoryDisk:
    """The disk. Set `cut_at` to have the power fail at that operation from now; `on_cut` is what failing means."""

    def __init__(self, capacity_bytes: int = 1 << 30) -> None:
        self.operations = 0
        self.cut_at: int | None = None
        self.on_cut: Callable[[], None] = _raise_power_cut
        self._capacity_bytes = capacity_bytes
        self._names: dict[str, Inode] = {}
        self._durable_names: dict[str, Inode] = {}
        self._changes: list[NameChange] = []

    async def read(self, path: str) -> bytes:
        """The whole file."""
        await self._step()
        return bytes(self._inode(path).data)

    async def digest(self, path: str) -> str:
        """SHA-256 (hex) of the file."""
        return hashlib.sha256(await self.read(path)).hexdigest()

    async def size(self, path: str) -> int:
        """Length in bytes."""
        await self._step()
        return len(self._inode(path).data)

    async def create(self, path: str, size: int) -> None:
        """An empty file of `size` bytes, with its space reserved."""
        replaced = self._names.get(path)
        if size > self._free() + (len(replaced.data) if replaced else 0):
            raise DiskFullError(f"{path}: no room for {size} bytes")
        self._change(NameChange(_directory(path), path, Inode(bytearray(size))))
        await self._step()

    async def pwrite(self, path: str, offset: int, data: bytes) -> None:
        """Write at `offset`."""
        inode = self._inode(path)
        if offset + len(data) > len(inode.data):
            if offset + len(data) - len(inode.data) > self._free():
                raise DiskFullError(f"{path}: no room for {len(data)} bytes")
            inode.data.extend(bytes(offset + len(data) - len(inode.data)))
        inode.data[offset : offset + len(data)] = data
        inode.pending.append((offset, data))
        await self._step()

    async def fsync(self, path: str) -> None:
        """Make the content durable."""
        inode = self._inode(path)
        await self._step()
        inode.durable, inode.pending = bytes(inode.data), []

    async def rename(self, source: str, target: str) -> None:
        """Rename within one directory, replacing `target`."""
        if _directory(source) != _directory(target):
            raise DiskError(f"cannot rename {source} to {target}: another directory")
        self._change(NameChange(_directory(target), target, self._inode(source), source))
        await self._step()

    async def unlink(self, path: str) -> None:
        """Remove the file."""
        self._inode(path)
        self._change(NameChange(_directory(path), path, None))
        await self._step()

    async def fsync_dir(self, path: str) -> None:
        """Make the names of a directory durable."""
        await self._step()
        for change in self._changes:
            if change.directory == path:
                _apply(self._durable_names, change)
        self._changes = [change for change in self._changes if change.directory != path]

    async def list(self, path: str) -> tuple[str, ...]:
        """Names in a directory, sorted."""
        await self._step()
        return tuple(sorted(name.rpartition("/")[2] for name in self._names if _directory(name) == path))

    async def free_bytes(self) -> int:
        """Room left."""
        return self._free()

    def peek(self, path: str) -> bytes | None:
        """What a read would give now, without being an operation: for checks from outside."""
        inode = self._names.get(path)
        return None if inode is None else bytes(inode.data)

    def crash(self, rng: Rng) -> None:
        """The power went and came back: decide what of everything that was not synced is there."""
        kept: dict[str, int] = {}
        for directory in sorted({change.directory for change in self._changes}):
            kept[directory] = rng.below(sum(change.directory == directory for change in self._changes) + 1)
        for change in self._changes:
            if kept[change.directory] > 0:
                kept[change.directory] -= 1
                _apply(self._durable_names, change)
        for name in sorted(self._durable_names):
            _tear(self._durable_names[name], rng)
        self._names = dict(self._durable_names)
        self._changes = []
        self.cut_at = None

    async def _step(self) -> None:
        """One operation: a turn of the loop, in which other tasks run, and a moment at which the power may go."""
        self.operations += 1
        if self.cut_at is not None and self.operations >= self.cut_at:
            self.cut_at = None
            self.on_cut()
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(0)

    def _inode(self, path: str) -> Inode:
        inode = self._names.get(path)
        if inode is None:
            raise FileMissingError(f"no file {path}")
        return inode

    def _change(self, change: NameChange) -> None:
        _apply(self._names, change)
        self._changes.append(change)

    def _free(self) -> int:
        return self._capacity_bytes - sum(len(inode.data) for inode in self._names.values())


def _directory(path: str) -> str:
    return path.rpartition("/")[0]


def _apply(names: dict[str, Inode], change: NameChange) -> None:
    if change.source:
        names.pop(change.source, None)
    if change.inode is None:
        names.pop(change.name, None)
    else:
        names[change.name] = change.inode


def _tear(inode: Inode, rng: Rng) -> None:
    """Each write since the last sync is lost, cut short, replaced by zeros or kept."""
    data = bytearray(inode.durable)
    for offset, written in inode.pending:
        fate = rng.below(4)
        if fate == 0:
            continue
        piece = {1: written[: rng.below(len(written) + 1)], 2: bytes(len(written)), 3: written}[fate]
        data.extend(bytes(max(0, offset + len(piece) - len(data))))
        data[offset : offset + len(piece)] = piece
    inode.data, inode.durable, inode.pending = data, bytes(data), []
