"""A disk that notes, before each change of it, what a power cut at that moment could leave and what was promised."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from bench.crash_states.cloud import Promises
from simulator.core.power import Left, Unsettled
from simulator.memory_disk import MemoryDisk, PowerCutError

ROOM_BYTES = 1 << 30


class Look(NamedTuple):
    """At the content or the length of a file that was there from the beginning, by the name that it had then."""

    path: str
    content: bool

    def sees(self, files: Mapping[str, Left]) -> object:
        """What tells one such file from another."""
        left = files[self.path]
        return left.digest if self.content else len(left.data)


@dataclass(frozen=True, slots=True)
class Moment:
    """Between two changes of the disk: which kind was the last, to what, and how things stand."""

    operation: str
    path: str
    disk: Unsettled
    promises: Promises


class RecordingDisk(MemoryDisk):
    """The disk. `promises` is asked at every moment for what the world outside was told by then."""

    def __init__(self, files: Mapping[str, bytes], promises: Callable[[], Promises]) -> None:
        super().__init__()
        self.hold(files)
        self.moments: list[Moment] = []
        self._promises = promises
        self._last = ("start", "")
        self._dead = False
        self._synced = ""
        self.records = True
        """Else only the last moment is kept."""
        self.cut_after = ""
        """The power goes as soon as a record is durable of which the name ends so."""
        self.takes_turns = True
        """Do others come to their turn between two operations? A recovery is quicker without."""
        self.looks: dict[Look, None] = {}
        """What somebody saw of the files held from the beginning, in that order."""
        self._first = {number: path for path, number in self._names.items()}
        self._written: dict[int, list[tuple[int, int]]] = {}
        """Number of such a file -> (beginning, end) of what was written to it since."""

    async def read(self, path: str) -> bytes:
        """The whole file."""
        self._look(path, content=True)
        return await super().read(path)

    async def size(self, path: str) -> int:
        """Length in bytes."""
        self._look(path, content=False)
        return await super().size(path)

    async def free_bytes(self) -> int:
        """Always the same, so that nothing depends on the length of a file that nobody reads."""
        return ROOM_BYTES

    def peek(self, path: str) -> bytes | None:
        """What a read would give now: the rules look, too."""
        self._look(path, content=True)
        return super().peek(path)

    async def digest(self, path: str) -> str:
        """SHA-256 (hex) of the file."""
        return sha256_of(await self.read(path))

    async def create(self, path: str, size: int) -> None:
        """An empty file."""
        self.note("create", path)
        await super().create(path, size)

    async def pwrite(self, path: str, offset: int, data: bytes) -> None:
        """Write."""
        self.note("pwrite", path)
        number = self._names.get(path, -1)
        if number in self._first:
            self._written.setdefault(number, []).append((offset, offset + len(data)))
        await super().pwrite(path, offset, data)

    async def fsync(self, path: str) -> None:
        """Make the content durable."""
        self.note("fsync", path)
        self._synced = path
        await super().fsync(path)

    async def rename(self, source: str, target: str) -> None:
        """Rename."""
        self.note("rename", target)
        await super().rename(source, target)

    async def unlink(self, path: str) -> None:
        """Remove."""
        self.note("unlink", path)
        await super().unlink(path)

    async def fsync_dir(self, path: str) -> None:
        """Make the names durable."""
        self.note("fsync_dir", path)
        await super().fsync_dir(path)
        if self.cut_after and self._synced.endswith(self.cut_after):
            self.die()

    def note(self, operation: str, path: str = "") -> None:
        """`operation` comes next: keep the moment before it."""
        if self.records and not self._dead:
            self.moments.append(Moment(*self._last, self.unsettled(), self._promises()))
        self._last = (operation, path)

    def end(self) -> None:
        """This is the last moment, unless the power went before."""
        self.records = True
        self.note("end")

    def die(self) -> None:
        """The power goes. Raises PowerCutError, now and for whoever goes on."""
        self.end()
        self._dead = True
        raise PowerCutError("power cut")

    def _look(self, path: str, *, content: bool) -> None:
        number = self._names.get(path, -1)
        first = self._first.get(number)
        if first is None:
            return
        self.looks[Look(first, content=False)] = None
        if content and not self._overwritten(number):
            self.looks[Look(first, content=True)] = None

    def _overwritten(self, number: int) -> bool:
        """Is nothing left of what this file held at first, but for its length?"""
        reached = 0
        for begin, end in sorted(self._written.get(number, ())):
            if begin > reached:
                break
            reached = max(reached, end)
        return reached >= self._files[number].size

    def _counts(self) -> bool:
        """One operation more: is anything to happen before the next?"""
        self.operations += 1
        return self._dead or self.takes_turns

    async def _turn(self) -> None:
        """Between two operations."""
        if self._dead:
            self.die()
        await asyncio.sleep(0)


@lru_cache(maxsize=1024)
def sha256_of(data: bytes) -> str:
    """Its digest (hex). The same few files are hashed thousands of times."""
    return hashlib.sha256(data).hexdigest()
