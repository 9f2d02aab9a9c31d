"""Logs of the hub's children, which run for years: bounded."""

import contextlib
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 16 * 1024 * 1024


def make_room(log: Path, most: int = MAX_BYTES) -> None:
    """Once it has `most` bytes, put a log aside as `NAME.1`, in place of what lay there. Who writes opens it anew.

    What cannot be put aside grows on: a log is no reason to stop.
    """
    with contextlib.suppress(OSError):
        if log.stat().st_size >= most:
            log.replace(log.with_name(f"{log.name}.1"))
