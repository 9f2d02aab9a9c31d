"""Content-addressed objects on any filesystem that fsspec knows: `ab/abcdef...` under a directory, a bucket, a prefix.

A name exists only once its whole content is durable. On a local directory that takes a part file, fsync, rename and
fsync of the directories; object stores show a new object whole or not at all, and only when it is stored. Whoever
stores an object has a part file of his own; once the object is there, all its part files are needless and go, those
that a kill has left behind and those that are being written alike.
"""

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from io import BufferedReader, BytesIO
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO, Final

import fsspec
from fsspec.implementations.local import LocalFileSystem

from cloud.ports import ObjectMissingError, ObjectStoreError, Staged
from wire.ports import Offload

PART: Final = ".part"
_DIGEST: Final = re.compile("[0-9a-f]{64}")


class FsspecObjects:
    """The `cloud.ports.Objects` under a URL: a path, `s3://bucket/prefix`, `memory://objects`...

    Raises ValueError for a URL of no known kind, ImportError naming the package that a kind needs.
    """

    def __init__(self, url: str, offload: Offload) -> None:
        filesystem, root = fsspec.url_to_fs(url)
        self._files: Any = filesystem
        self._root = str(root).rstrip("/")
        self._offload = offload

    async def put(self, data: bytes) -> str:
        """Store `data` (again)."""
        sha256 = hashlib.sha256(data).hexdigest()
        await self._offload.run(lambda: self._store(sha256, len(data), lambda: BytesIO(data)))
        return sha256

    async def adopt(self, staged: Staged) -> None:
        """Store the content of a staged file (again)."""
        await self._offload.run(lambda: self._store(staged.sha256, staged.bytes, partial(_reading, staged.path)))

    async def get(self, sha256: str) -> bytes:
        """Read and verify. Raises ObjectMissingError when it is absent or its content has changed."""
        return await self._offload.run(lambda: self._get(sha256))

    async def verify(self, sha256: str) -> int:
        """Compare the content with the digest, piece by piece. Raises ObjectMissingError."""
        return await self._offload.run(lambda: self._verify(sha256))

    async def piece(self, sha256: str, offset: int, length: int) -> bytes:
        """Read a part. Raises ObjectMissingError when the object cannot be read."""
        return await self._offload.run(lambda: self._piece(sha256, offset, length))

    def _path(self, sha256: str) -> str:
        if not _DIGEST.fullmatch(sha256):
            raise ObjectMissingError(f"no object is called {sha256[:80]!r}: objects are named by their SHA-256 (hex)")
        return f"{self._root}/{sha256[:2]}/{sha256}"

    def _store(self, sha256: str, length: int, opened: Callable[[], BinaryIO]) -> None:
        path = self._path(sha256)
        try:
            if self._length(path) == length:
                return
            with opened() as source:
                if isinstance(self._files, LocalFileSystem):
                    _store_durably(Path(path), source)
                else:
                    self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
                    self._files.pipe_file(path, source.read())
        except OSError as error:
            raise ObjectStoreError(f"object {sha256[:12]} cannot be stored: {error}; see that there is room") from error

    def _length(self, path: str) -> int | None:
        try:
            return int(self._files.info(path)["size"])
        except FileNotFoundError:
            return None

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
            return file.seek(0, os.SEEK_END)

    def _piece(self, sha256: str, offset: int, length: int) -> bytes:
        with _readable(sha256):
            return bytes(self._files.cat_file(self._path(sha256), start=offset, end=offset + length))

    @contextlib.contextmanager
    def _opened(self, sha256: str) -> Iterator[BufferedReader]:
        with _readable(sha256), self._files.open(self._path(sha256), "rb") as file:
            yield file


@contextlib.contextmanager
def _readable(sha256: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ObjectMissingError(f"object {sha256[:12]} cannot be read: {error}") from error


def _damaged(sha256: str) -> ObjectMissingError:
    return ObjectMissingError(f"object {sha256[:12]} is damaged where it is stored: restore it from a backup")


def _reading(path: str) -> BinaryIO:
    return open(path, "rb")


def _store_durably(path: Path, source: BinaryIO) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.", suffix=PART, delete=False) as file:
        part = Path(file.name)
        try:
            shutil.copyfileobj(source, file)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    try:
        part.replace(path)
    except FileNotFoundError:
        if not path.exists():  # then nobody who was quicker has taken our part away
            raise
        return
    for directory in (path.parent, path.parent.parent):
        _sync(directory)
    for needless in path.parent.glob(f"{path.name}*{PART}"):
        needless.unlink(missing_ok=True)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
