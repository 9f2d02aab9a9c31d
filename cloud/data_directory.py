"""The hub's data directory: one hub at a time uses it, and its secrets are made where there are none."""

import fcntl
import os
from pathlib import Path
from typing import BinaryIO

from cloud.settings import told
from cloud.settings_check import SettingsError
from wire.ports import Ids


def locked(directory: Path) -> BinaryIO:
    """One hub per data directory; the lock goes with the process. Raises SettingsError."""
    file = (directory / "lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise SettingsError(f"another hub uses {directory}: end it, or choose another {told('data_dir')}") from error
    return file


def secret(path: Path, ids: Ids, prefix: str = "") -> str:
    """The secret in a file (0600); made, durably, when it is not there: `prefix` and what nobody can guess."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_name(path.name + ".tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(prefix + ids.secret() + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    return path.read_text().strip()
