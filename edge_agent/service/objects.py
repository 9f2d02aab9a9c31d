"""Content-addressed files: `objects/<sha256>` exists only once its bytes were verified and made durable."""

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterator

from edge_agent.core.pointer import Record
from edge_agent.core.reading import read_release
from edge_agent.core.slot import Deployed
from edge_agent.errors import DiskError, DiskFullError, FileMissingError, RefusedError
from edge_agent.ports import Disk
from edge_agent.service.durable import read_if_there, write_atomic
from wire.release import ObjectRef, Release

FOLDER = "objects"
SPARE_BYTES = 4 * 1024 * 1024
"""Room that downloads leave for the records and captures."""


def path_of(sha256: str) -> str:
    """Where the object lies."""
    return f"{FOLDER}/{sha256}"


class Objects:
    """The verified files of this device."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._kept: Counter[str] = Counter()

    async def holds(self, sha256: str) -> bool:
        """Is it here, with the content it should have? Reads the whole file; one that cannot be read is not here."""
        try:
            return await self._disk.digest(path_of(sha256)) == sha256
        except DiskError:
            return False

    async def room_taken(self, *refs: ObjectRef) -> int:
        """Bytes of the disk that these take already: they are here, or their space is reserved."""
        names = {_object_of(name) for name in await self._disk.list(FOLDER)}
        return sum(ref.bytes for ref in refs if ref.sha256 in names)

    async def read(self, sha256: str) -> bytes:
        """Its content."""
        return await self._disk.read(path_of(sha256))

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
        wanted = [state.desired for state in record.slots.values() if state.desired is not None]
        keep = {sha256 for desired in wanted for sha256 in (desired.sha256, desired.release.sha256)}
        keep |= {delta.file.sha256 for desired in wanted for delta in desired.deltas}
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
        self._kept[sha256] += 1
        try:
            yield
        finally:
            self._kept[sha256] -= 1
            self._kept += Counter()  # without those that nobody holds

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


class PartFile:
    """An object on its way: a file of full size, and beside it the bitmap of the chunks that are durable in it.

    An object of a single group has no bitmap: it is complete before one would be due.
    """

    def __init__(self, disk: Disk, ref: ObjectRef) -> None:
        self._disk = disk
        self._ref = ref
        self.path = f"{FOLDER}/.{ref.sha256}.part"
        self._have_path = f"{FOLDER}/.{ref.sha256}.have"

    async def reserved(self) -> bool:
        """Did an earlier attempt reserve the space?"""
        try:
            return await self._disk.size(self.path) == self._ref.bytes
        except FileMissingError:
            return False

    async def held(self) -> bytes:
        """The bitmap that an earlier attempt left; empty when it left nothing."""
        return await read_if_there(self._disk, self._have_path) or b"" if await self.reserved() else b""

    async def open(self) -> bytes:
        """Reserve the space, or find what an earlier attempt left; returns the bitmap of the chunks that are held.

        Raises DiskFullError.
        """
        reserved = await self.reserved()
        free, needed = await self._disk.free_bytes(), 0 if reserved else self._ref.bytes
        if free < needed + SPARE_BYTES:
            raise DiskFullError(f"needs {needed} bytes and {SPARE_BYTES} to spare, {free} are free")
        if not reserved:
            await self.forget()  # of an earlier file: it would vouch for chunks that are not in this one
            await self._disk.create(self.path, self._ref.bytes)
        return await self.held()

    async def write(self, offset: int, data: bytes) -> None:
        """Put chunks in their place."""
        await self._disk.pwrite(self.path, offset, data)

    async def sync(self, have: bytes) -> None:
        """Make what was written durable, then the record of it."""
        await self._disk.fsync(self.path)
        await write_atomic(self._disk, self._have_path, have)

    async def finish(self) -> None:
        """Verify the whole object and give it its name. Raises RefusedError on another digest, starting over then."""
        digest = await self._disk.digest(self.path)
        if digest != self._ref.sha256:
            await self.forget()
            await self._disk.unlink(self.path)
            raise RefusedError(f"object {self._ref.sha256[:12]}: what arrived has digest {digest[:12]}")
        await self._disk.fsync(self.path)
        await self._disk.rename(self.path, path_of(self._ref.sha256))
        await self._disk.fsync_dir(FOLDER)
        await self.forget()

    async def forget(self) -> None:
        """What is in the file counts for nothing any more, durably."""
        if self._have_path.rpartition("/")[2] in await self._disk.list(FOLDER):
            await self._disk.unlink(self._have_path)
            await self._disk.fsync_dir(FOLDER)


def _object_of(name: str) -> str:
    """The digest in the name of an object, or of the part of one (`.<sha256>.part`)."""
    return name.split(".")[1] if name.startswith(".") else name


def _deployed(record: Record) -> list[Deployed]:
    slots = (record.slots[name] for name in sorted(record.slots))
    every = [deployed for slot in slots for deployed in (slot.current, slot.previous, slot.trial)]
    return [deployed for deployed in every if deployed is not None]
