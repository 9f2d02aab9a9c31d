"""The data directory on a POSIX file system. Blocking calls run in their own thread; errors are translated here."""

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from edge_agent.errors import DiskBusyError, DiskError, DiskFullError, FileMissingError
from wire.ports import Offload

T = TypeVar("T")

FOLDERS = ("identity", "trust", "objects", "capture", "federated", "outbox")
_SAYS_NOTHING_OF_THE_FILE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EROFS)
"""What the system lacks for now, or a file system that was remounted: the content may be whole."""


def prepare(root: Path) -> None:
    """Make the data directory, closed to other users."""
    for folder in (root, *(root / name for name in FOLDERS)):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)


class PosixDisk:
    """Implements `edge_agent.ports.Disk` under one directory."""

    def __init__(self, root: Path, offload: Offload) -> None:
        self._root = root
        self._offload = offload

    def locate(self, path: str) -> str:
        """The path as other programs on this machine know it."""
        return str(self._at(path))

    async def read(self, path: str) -> bytes:
        """The whole file."""
        return await self._run(self._at(path).read_bytes)

    async def digest(self, path: str) -> str:
        """SHA-256 (hex) of the file."""
        return await self._run(lambda: _digest(self._at(path)))

    async def digests(self, path: str, piece_bytes: int) -> tuple[str, ...]:
        """SHA-256 (hex) of each piece."""
        return await self._run(lambda: _digests(self._at(path), piece_bytes))

    async def size(self, path: str) -> int:
        """Its length in bytes."""
        return await self._run(lambda: self._at(path).stat().st_size)

    async def create(self, path: str, size: int) -> None:
        """An empty file with its space reserved."""
        await self._run(lambda: _create(self._at(path), size))

    async def pwrite(self, path: str, offset: int, data: bytes) -> None:
        """Write at `offset`."""
        await self._run(lambda: _pwrite(self._at(path), offset, data))

    async def fsync(self, path: str) -> None:
        """Make the content durable."""
        await self._run(lambda: _fsync(self._at(path), os.O_RDWR))

    async def rename(self, source: str, target: str) -> None:
        """Rename, replacing `target`."""
        await self._run(lambda: self._at(source).replace(self._at(target)))

    async def unlink(self, path: str) -> None:
        """Remove the file."""
        await self._run(self._at(path).unlink)

    async def fsync_dir(self, path: str) -> None:
        """Make the directory durable."""
        await self._run(lambda: _fsync(self._at(path), os.O_RDONLY))

    async def list(self, path: str) -> tuple[str, ...]:
        """Names in the directory."""
        return await self._run(lambda: tuple(sorted(os.listdir(self._at(path)))))

    async def free_bytes(self) -> int:
        """Room that an unprivileged process may use."""

        def free() -> int:
            stat = os.statvfs(self._root)
            return stat.f_bavail * stat.f_frsize

        return await self._run(free)

    def _at(self, path: str) -> Path:
        return self._root / path

    async def _run(self, call: Callable[[], T]) -> T:
        try:
            return await self._offload.run(call)
        except FileNotFoundError as error:
            raise FileMissingError(str(error)) from error
        except OSError as error:
            raise _kind(error.errno)(str(error)) from error


def _kind(number: int | None) -> type[DiskError]:
    if number in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError
    return DiskBusyError if number in _SAYS_NOTHING_OF_THE_FILE else DiskError


def _digest(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digests(path: Path, piece_bytes: int) -> tuple[str, ...]:
    with path.open("rb") as file:
        return tuple(hashlib.sha256(piece).hexdigest() for piece in iter(lambda: file.read(piece_bytes), b""))


def _create(path: Path, size: int) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        if size:
            os.posix_fallocate(descriptor, 0, size)
    finally:
        os.close(descriptor)


def _pwrite(path: Path, offset: int, data: bytes) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        view = memoryview(data)
        while view:
            written = os.pwrite(descriptor, view, offset)
            view, offset = view[written:], offset + written
    finally:
        os.close(descriptor)


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
