"""The ledger as one JSON file, replaced atomically and durable before `record` returns."""

import os
from pathlib import Path

import msgspec

from cloud.publisher.core import Signed
from wire.errors import MalformedError


class LedgerFile:
    """`cloud.publisher.ports.Ledger` at `path`. One process only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._signed = _read(path)

    def last(self, model: str) -> Signed | None:
        """The newest signature for `model`."""
        return self._signed.get(model)

    def record(self, model: str, signed: Signed) -> None:
        """Remember durably."""
        updated = {**self._signed, model: signed}
        temporary = self._path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(updated)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self._signed = updated


def _read(path: Path) -> dict[str, Signed]:
    if not path.exists():
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Signed])
    except msgspec.DecodeError as error:
        raise MalformedError(
            f"{path}: not the publisher's ledger ({error}); restore it from a backup, never delete it"
        ) from error
