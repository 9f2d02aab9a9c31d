"""Files for secrets that a hub shows only once: they are made before it is asked, so that nothing is shown in vain."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from wire.errors import MalformedError


@contextlib.contextmanager
def reserved(paths: Sequence[Path]) -> Iterator[None]:
    """Empty files for their owner only, to be written in the block; those that stay empty are gone after it.

    Raises MalformedError when one of them is there already or cannot be made, before anything was asked.
    """
    made: list[Path] = []
    try:
        for path in paths:
            _make(path)
            made.append(path)
        yield
    finally:
        for path in made:
            if not path.stat().st_size:
                path.unlink()


def _make(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError as error:
        advice = "a secret is never written over another file: name another place, or move it away"
        raise MalformedError(f"{path}: {error.strerror}; {advice}") from error
    except OSError as error:
        raise MalformedError(f"{path}: {error.strerror}") from error
