"""A disk in memory that can lose power, modelled on inodes: names and bytes become durable separately.

What a cut leaves is decided in `simulator.core.power`. Satisfies `edge_agent.ports.Disk`.
"""

import asyncio
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache

from edge_agent.errors import DiskError, DiskFullError, FileMissingError
from simulator.core.memo import in_pieces, sha256, shared
from simulator.core.power import Content, NameChange, Unsettled, apply, one_outcome, written
from simulator.core.rng import Rng


class PowerCutError(BaseException):
    """The power went at this operation: nothing may catch this and go on."""


def _raise_power_cut() -> None:
    raise PowerCutError("power cut")


class MemoryDisk:
    """The disk. Set `cut_at` to have the power fail at that operation from now; `on_cut` is what failing means.

    `turn_every`: so many operations are one turn of the loop. Each of them is a moment at which the power may fail.
    `on_renamed` is told the path of every file that got its name by renaming, which is how records are replaced, and
    `on_synced` every folder whose names became durable.
    """

    def __init__(self, capacity_bytes: int = 1 << 30, turn_every: int = 1) -> None:
        self.turn_every = turn_every
        self.operations = 0
        self.cut_at: int | None = None
        self.on_cut: Callable[[], None] = _raise_power_cut
        self.on_renamed: Callable[[str], None] = _nobody_cares
        self.on_synced: Callable[[str], None] = _nobody_cares
        self._capacity_bytes = capacity_bytes
        self._used_bytes = 0
        self._files: dict[int, Content] = {}
        """By number. The bytes of a file are put together when somebody reads them."""
        self._numbers = 0
        self._names: dict[str, int] = {}
        self._durable_names: dict[str, int] = self._names
        """The same object while they are the same, which is most of the time."""
        self._changes: list[NameChange] = []
        self._troubled = False

    async def read(self, path: str) -> bytes:
        """The whole file."""
        if self._troubled:
            await self._meet(path)
        if self._counts():
            await self._turn()
        return _data(self._content(path))

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
        if self._troubled:
            await self._meet(path)
        if self._counts():
            await self._turn()
        return self._content(path).size

    async def create(self, path: str, size: int) -> None:
        """An empty file of `size` bytes, with its space reserved."""
        if self._troubled:
            await self._meet(path, writes=True, grows=True)
        replaced = self._names.get(path)
        if size > self._free() + (0 if replaced is None else self._files[replaced].size):
            raise DiskFullError(f"{path}: no room for {size} bytes")
        self._numbers += 1
        self._files[self._numbers] = Content(b"", size)
        self._change(NameChange(_directory(path), path, self._numbers))
        if self._counts():
            await self._turn()

    async def pwrite(self, path: str, offset: int, data: bytes) -> None:
        """Write at `offset`."""
        if self._troubled:
            await self._meet(path, writes=True, grows=True)
        number = self._number(path)
        kept, size, writes = self._files[number]
        growth = offset + len(data) - size
        if growth > 0:
            if growth > self._free():
                raise DiskFullError(f"{path}: no room for {len(data)} bytes")
            self._used_bytes += growth
            size += growth
        self._files[number] = Content(kept, size, (*writes, (offset, shared(bytes(data)))))
        if self._counts():
            await self._turn()

    async def fsync(self, path: str) -> None:
        """Make the content durable."""
        if self._troubled:
            await self._meet(path, writes=True)
        number = self._number(path)
        if self._counts():
            await self._turn()
        content = self._files.get(number)  # None: it lost its name meanwhile
        if content is not None and not content.settled:
            data = _data(content)
            known = content.writes and data is content.writes[0][1]
            self._files[number] = Content(data if known else shared(data), content.size)

    async def rename(self, source: str, target: str) -> None:
        """Rename within one directory, replacing `target`."""
        if self._troubled:
            await self._meet(source, writes=True)
        if _directory(source) != _directory(target):
            raise DiskError(f"cannot rename {source} to {target}: another directory")
        name = sys.intern(target)  # objects have the same on every device
        self._change(NameChange(_directory(target), name, self._number(source), source))
        if self._counts():
            await self._turn()
        self.on_renamed(target)

    async def unlink(self, path: str) -> None:
        """Remove the file."""
        if self._troubled:
            await self._meet(path, writes=True)
        self._number(path)
        self._change(NameChange(_directory(path), path, None))
        if self._counts():
            await self._turn()

    async def fsync_dir(self, path: str) -> None:
        """Make the names of a directory durable."""
        if self._troubled:
            await self._meet(path, writes=True)
        if self._counts():
            await self._turn()
        elsewhere = [change for change in self._changes if change.directory != path]
        if not elsewhere:
            self._durable_names = self._names
        else:
            for change in self._changes:
                if change.directory == path:
                    apply(self._durable_names, change)
        self._changes = elsewhere
        self._forget_nameless()
        self.on_synced(path)

    async def list(self, path: str) -> tuple[str, ...]:
        """Names in a directory, sorted."""
        if self._counts():
            await self._turn()
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
        return self._used_bytes

    def peek(self, path: str) -> bytes | None:
        """What a read would give now, without being an operation: for checks from outside."""
        number = self._names.get(path)
        return None if number is None else _data(self._files[number])

    def unsettled(self) -> Unsettled:
        """What is certain of the disk at this moment, and what is not."""
        return Unsettled(dict(self._durable_names), tuple(self._changes), dict(self._files))

    def hold(self, files: Mapping[str, bytes]) -> None:
        """Hold these files and no others, all of it durable."""
        self._files, self._names, self._changes, self.cut_at = {}, {}, [], None
        for path, data in files.items():
            self._numbers += 1
            self._files[self._numbers] = Content(in_pieces(data), len(data))
            self._names[path] = self._numbers
        self._durable_names = self._names
        self._used_bytes = sum(map(len, files.values()))

    def crash(self, rng: Rng) -> None:
        """The power went and came back: decide what of everything that was not synced is there."""
        self.hold({path: left.data for path, left in one_outcome(self.unsettled(), rng).items()})

    async def _meet(self, path: str, *, writes: bool = False, grows: bool = False) -> None:
        """What happens before an operation while the disk is `_troubled`. What fails here changes nothing."""

    def _counts(self) -> bool:
        """One operation more: does the power go at it, or do others run now?"""
        self.operations += 1
        cut_at = self.cut_at
        return not self.operations % self.turn_every or (cut_at is not None and self.operations >= cut_at)

    async def _turn(self) -> None:
        """The power goes, or other tasks run."""
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

    def _content(self, path: str) -> Content:
        return self._files[self._number(path)]

    def _change(self, change: NameChange) -> None:
        """The file that had the name, if one had, takes no room any more; a new one does."""
        replaced = self._names.get(change.name)
        if replaced is not None:
            self._used_bytes -= self._files[replaced].size
        if change.file is not None and not change.source:
            self._used_bytes += self._files[change.file].size
        if self._names is self._durable_names:
            self._names = dict(self._names)
        apply(self._names, change)
        self._changes.append(change)

    def _forget_nameless(self) -> None:
        """Files without a name, now and after a power cut, are no more."""
        used = {*self._names.values(), *self._durable_names.values()}
        if len(used) < len(self._files):
            used.update(change.file for change in self._changes if change.file is not None)
            # made anew: a dictionary keeps the table that it once needed
            self._files = {number: content for number, content in self._files.items() if number in used}

    def _free(self) -> int:
        return self._capacity_bytes - self._used_bytes


def _nobody_cares(path: str) -> None:
    pass


def _data(content: Content) -> bytes:
    """The bytes as they are now."""
    return content.durable if content.settled else written(content, content.writes)


@lru_cache(maxsize=4_096)
def _directory(path: str) -> str:
    return path.rpartition("/")[0]
