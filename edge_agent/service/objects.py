"""Content-addressed files: `objects/<sha256>` exists only once its bytes were verified and made durable.

What cannot be read is read once more before anything is concluded: an error that does not last says nothing of the
file.
"""

import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from edge_agent.core.pointer import Record
from edge_agent.core.reading import read_release
from edge_agent.core.slot import Deployed, State
from edge_agent.errors import DiskBusyError, DiskError, DiskFullError, FileMissingError, RefusedError
from edge_agent.ports import Disk
from wire.release import ObjectRef, Release

T = TypeVar("T")

FOLDER = "objects"


def path_of(sha256: str) -> str:
    """Where the object lies."""
    return f"{FOLDER}/{sha256}"


class Objects:
    """The verified files of this device."""

    __slots__ = ("_disk", "_kept")

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._kept: dict[str, int] = {}

    async def holds(self, sha256: str) -> bool:
        """Is it here, with the content it should have? Reads the whole file; one that cannot be read is not here.

        Raises DiskBusyError, DiskFullError: nobody can tell for now. A model is not given up for that: the agent is
        started again.
        """
        try:
            return await _twice(self._disk.digest, path_of(sha256)) == sha256
        except (DiskBusyError, DiskFullError):
            raise
        except DiskError:
            return False

    async def room_taken(self, *refs: ObjectRef) -> int:
        """Bytes of the disk that these take already: they are here, or their space is reserved."""
        names = {_object_of(name) for name in await self._disk.list(FOLDER)}
        return sum(ref.bytes for ref in refs if ref.sha256 in names)

    async def read(self, sha256: str) -> bytes:
        """Its content."""
        return await _twice(self._disk.read, path_of(sha256))

    async def release(self, deployed: Deployed) -> Release:
        """The release that `deployed` belongs to. It was vouched for when that was installed; its digest still says so.

        Raises:
            RefusedError: it is damaged. DiskError: it is gone.
        """
        document = await self.read(deployed.release)
        if hashlib.sha256(document).hexdigest() != deployed.release:
            raise RefusedError(f"object {deployed.release[:12]}: was damaged on the disk")
        return read_release(document)

    async def intact(self, record: Record) -> frozenset[str]:
        """Of all models that the record names: the digests whose model and release files are whole."""
        good = set()
        for deployed in _deployed(record):
            if await self.holds(deployed.installed.sha256) and await self.holds(deployed.release):
                good.add(deployed.installed.sha256)
        return frozenset(good)

    async def collect(self, record: Record) -> int:
        """Remove every object that no model of the record needs, and what downloads left; returns how many went.

        What a slot wants stays, also in part: an attempt goes on where the one before was cut.
        """
        keep = set()
        for state in record.slots.values():
            if state.desired is not None:
                keep |= {state.desired.sha256, state.desired.release.sha256}
                keep |= set() if _has_it(state) else {delta.file.sha256 for delta in state.desired.deltas}
        for deployed in _deployed(record):
            keep |= {deployed.installed.sha256, deployed.release}
            keep |= await self._companions(deployed)
        keep |= set(self._kept)
        doomed = [name for name in await self._disk.list(FOLDER) if _object_of(name) not in keep]
        for name in doomed:
            await self._disk.unlink(f"{FOLDER}/{name}")
        if doomed:
            await self._disk.fsync_dir(FOLDER)
        return len(doomed)

    @contextlib.contextmanager
    def kept(self, sha256: str) -> Iterator[None]:
        """While an object is being fetched or used, what is there of it is no garbage."""
        self._kept[sha256] = self._kept.get(sha256, 0) + 1
        try:
            yield
        finally:
            self._kept[sha256] -= 1
            if not self._kept[sha256]:
                del self._kept[sha256]

    async def drop(self, sha256: str) -> None:
        """Remove an object that has served its purpose, if it is there."""
        with contextlib.suppress(FileMissingError):
            await self._disk.unlink(path_of(sha256))

    async def _companions(self, deployed: Deployed) -> set[str]:
        try:
            companions = (await self.release(deployed)).companions
        except (RefusedError, FileMissingError):
            return set()
        refs = (companions.golden, companions.parameters, companions.train_step, companions.eval)
        return {ref.sha256 for ref in refs if ref is not None}


async def _twice(read: Callable[[str], Awaitable[T]], path: str) -> T:
    try:
        return await read(path)
    except FileMissingError:
        raise
    except DiskError:
        return await read(path)


def _has_it(state: State) -> bool:
    """Does the slot run what it wants? Then a delta, left by a cut, has served its purpose."""
    if state.current is None or state.desired is None:
        return False
    return state.current.installed.sha256 == state.desired.sha256


def _object_of(name: str) -> str:
    """The digest in the name of an object, or of the part of one (`.<sha256>.part`)."""
    return name.split(".")[1] if name.startswith(".") else name


def _deployed(record: Record) -> list[Deployed]:
    slots = (record.slots[name] for name in sorted(record.slots))
    every = [deployed for slot in slots for deployed in (slot.current, slot.previous, slot.trial)]
    return [deployed for deployed in every if deployed is not None]
