"""What the publisher has signed, one file a role, each replaced atomically and durable before `write` returns."""

import os
from pathlib import Path


class MetadataFiles:
    """`cloud.publisher.ports.Shelf` in `directory`. One process only."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory

    def read(self, role: str) -> bytes | None:
        """The newest document of a role."""
        path = self._path(role)
        return path.read_bytes() if path.exists() else None

    def write(self, role: str, document: bytes) -> None:
        """Remember durably."""
        path = self._path(role)
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            file.write(document)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _path(self, role: str) -> Path:
        return self._directory / f"{role}.json"
