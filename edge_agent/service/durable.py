"""Records replaced as a whole: after a power cut at any moment there is the old content or the new, never a mixture."""

import logging

from edge_agent.core.pointer import Record, choose, dump
from edge_agent.errors import DiskBusyError, DiskError, FileMissingError
from edge_agent.ports import Disk

log = logging.getLogger(__name__)

STATE = "state.json"
STATE_COPY = "state.copy.json"


def parent(path: str) -> str:
    """The directory part of a path; empty for the data directory itself."""
    return path.rpartition("/")[0]


async def write_atomic(disk: Disk, path: str, data: bytes) -> None:
    """Replace the file at `path`: temporary file, fsync, rename, fsync of the directory."""
    await _replace(disk, path, data)
    await disk.fsync_dir(parent(path))


async def _replace(disk: Disk, path: str, data: bytes) -> None:
    """The file at `path` is the old one or the new one; which, is certain once the directory is synced."""
    temporary = f"{path}.tmp"
    await disk.create(temporary, len(data))
    await disk.pwrite(temporary, 0, data)
    await disk.fsync(temporary)
    await disk.rename(temporary, path)


async def read_if_there(disk: Disk, path: str) -> bytes | None:
    """The file's content, or None when there is no such file."""
    try:
        return await disk.read(path)
    except FileMissingError:
        return None


class Journal:
    """The pointer record on the disk, in two copies: one may rot and the device still knows what it runs."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    async def load(self) -> Record:
        """The newest good copy. Raises DamagedRecordError when there are copies and none is good, DiskBusyError."""
        copies = [await self._copy(path) for path in (STATE, STATE_COPY)]
        return choose([copy for copy in copies if copy is not None])

    async def _copy(self, path: str) -> bytes | None:
        """One that cannot be read is there and damaged: rot shows as an I/O error, too. Raises DiskBusyError."""
        try:
            return await read_if_there(self._disk, path)
        except DiskBusyError:
            raise
        except DiskError as error:
            log.error("%s cannot be read: %s", path, error)
            return b""

    async def save(self, record: Record) -> None:
        """Make `record` the one that the next start finds. Raises DiskError; it or the old one holds then."""
        data = dump(record)
        await _replace(self._disk, STATE, data)
        await _replace(self._disk, STATE_COPY, data)
        await self._disk.fsync_dir(parent(STATE))  # both lie in it, and each is whole whatever a power cut leaves
