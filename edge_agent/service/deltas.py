"""The short cut to a model: a delta from an object that lies here. It may fail in any way; then all of it comes.

The delta is fetched like any object, unpacked in the installer child into the part file of the model, and the model
gets its name only with the digest it should have. So a hostile delta costs no more than the time until the fallback.
"""

from dataclasses import dataclass

from edge_agent.core.patience import Patience
from edge_agent.errors import DiskFullError, RefusedError, TransferError
from edge_agent.ports import Ports, UnpackRequest
from edge_agent.service.downloads import Downloads
from edge_agent.service.objects import Objects, path_of
from edge_agent.service.part_file import PartFile
from wire.assignment import Delta
from wire.release import ObjectRef

MAX_REASON = 200


@dataclass(frozen=True, slots=True)
class Obtained:
    """How an object came here. `refused` says why a delta that was offered was of no use."""

    downloaded_bytes: int
    by_delta: bool = False
    refused: str = ""


class Deltas:
    """Obtains objects by the shortest way that works."""

    __slots__ = ("_disk", "_downloads", "_installer", "_objects")

    def __init__(self, ports: Ports, objects: Objects, downloads: Downloads) -> None:
        self._disk = ports.disk
        self._installer = ports.installer
        self._objects = objects
        self._downloads = downloads

    async def obtain(self, ref: ObjectRef, offered: tuple[Delta, ...], patience: Patience) -> Obtained:
        """Have the object on the disk, verified and durable. Raises as `Downloads.fetch` does."""
        delta = await self._usable(ref, offered)
        if delta is None:
            return Obtained(await self._downloads.fetch(ref, patience))
        spent, refused = 0, ""
        with self._objects.kept(delta.file.sha256), self._objects.kept(ref.sha256):
            try:
                spent = await self._downloads.fetch(delta.file, patience)
                await self._unpack(ref, delta, patience.stall_s)
            except (RefusedError, TransferError, DiskFullError) as error:
                refused = str(error)[:MAX_REASON]
            await self._objects.drop(delta.file.sha256)
        if not refused:
            return Obtained(spent, by_delta=True)
        return Obtained(spent + await self._downloads.fetch(ref, patience), refused=refused)

    async def _usable(self, ref: ObjectRef, offered: tuple[Delta, ...]) -> Delta | None:
        """The first delta whose base is here; none for an object that is here, in part or whole."""
        if not offered or await PartFile(self._disk, ref).held() or await self._objects.holds(ref.sha256):
            return None
        for delta in offered:
            if delta.file.bytes < ref.bytes and await self._objects.holds(delta.base):
                return delta
        return None

    async def _unpack(self, ref: ObjectRef, delta: Delta, time_limit_s: float) -> None:
        part = PartFile(self._disk, ref)
        await part.open()
        request = UnpackRequest(
            base=path_of(delta.base),
            delta=path_of(delta.file.sha256),
            target=part.path,
            base_bytes=await self._disk.size(path_of(delta.base)),
            length=ref.bytes,
            time_limit_s=time_limit_s,
        )
        reason = await self._installer.unpack(request)
        if reason:
            raise RefusedError(f"delta: {reason}")
        await part.finish()
