"""Content-addressed objects as files: `objects/ab/abcdef...`. A name exists only once its content is durable."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from cloud.ports import ObjectMissingError
from wire.adapters.system import ThreadOffload


class ObjectFiles:
    """The `cloud.ports.Objects` on a local directory."""

    def __init__(self, directory: Path, offload: ThreadOffload) -> None:
        self._directory = directory
        self._offload = offload

    async def put(self, data: bytes) -> str:
        """Store `data` (again)."""
        return await self._offload.run(lambda: self._put(data))

    async def get(self, sha256: str) -> bytes:
        """Read and verify. Raises ObjectMissingError when it is absent or its content has changed."""
        return await self._offload.run(lambda: self._get(sha256))

    async def verify(self, sha256: str) -> int:
        """Compare the content with the digest, piece by piece. Raises ObjectMissingError."""
        return await self._offload.run(lambda: self._verify(sha256))

    async def piece(self, sha256: str, offset: int, length: int) -> bytes:
        """Read a part. Raises ObjectMissingError when the file cannot be read."""
        return await self._offload.run(lambda: self._piece(sha256, offset, length))

    def _path(self, sha256: str) -> Path:
        return self._directory / sha256[:2] / sha256

    def _put(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        path = self._path(sha256)
        if path.exists() and path.stat().st_size == len(data):
            return sha256
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(sha256 + ".part")
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        for directory in (path.parent, self._directory):
            _sync(directory)
        return sha256

    def _get(self, sha256: str) -> bytes:
        with self._opened(sha256) as file:
            data = file.read()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise _damaged(sha256)
        return data

    def _verify(self, sha256: str) -> int:
        with self._opened(sha256) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise _damaged(sha256)
            return file.tell()

    def _piece(self, sha256: str, offset: int, length: int) -> bytes:
        with self._opened(sha256) as file:
            file.seek(offset)
            return file.read(length)

    @contextlib.contextmanager
    def _opened(self, sha256: str) -> Iterator[BufferedReader]:
        try:
            with self._path(sha256).open("rb") as file:
                yield file
        except OSError as error:
            raise ObjectMissingError(f"object {sha256[:12]} cannot be read: {error}") from error


def _damaged(sha256: str) -> ObjectMissingError:
    return ObjectMissingError(f"object {sha256[:12]} is damaged on disk: restore it from a backup")


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
