"""What the publisher has signed, one file a role, each replaced atomically and durable before `write` returns."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from cloud.publisher.ports import ShelfError


class MetadataFiles:
    """`cloud.publisher.ports.Shelf` in `directory`. One process only."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory

    def read(self, role: str) -> bytes | None:
        """The newest document of a role."""
        path = self._path(role)
        with _translated(path):
            return path.read_bytes() if path.exists() else None

    def write(self, role: str, document: bytes) -> None:
        """Remember durably."""
        path = self._path(role)
        with _translated(path):
            _write_durably(path, document)

    def _path(self, role: str) -> Path:
        return self._directory / f"{role}.json"


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ShelfError(f"{path}: {error.strerror}; see that there is room, and that it can be written") from error


def _write_durably(path: Path, document: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(document)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
