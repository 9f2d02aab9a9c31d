"""Uploads on their way in, as files of a directory of their own, which begins empty with every hub."""

import functools
import hashlib
import itertools
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from cloud.ports import Staged, UploadTooLongError
from wire.ports import Offload


class UploadFiles:
    """The `cloud.ports.Staging` in a directory."""

    def __init__(self, directory: Path, offload: Offload) -> None:
        self._directory = directory
        self._offload = offload
        self._numbers = itertools.count()
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True, mode=0o700)

    async def receive(self, parts: AsyncIterator[bytes], most_bytes: int) -> Staged:
        """Write part by part; nothing stays of an upload that ends early or is too long."""
        path = self._directory / str(next(self._numbers))
        digest, length = hashlib.sha256(), 0
        try:
            with await self._offload.run(lambda: path.open("xb")) as file:
                async for part in parts:
                    length += len(part)
                    if length > most_bytes:
                        raise UploadTooLongError(f"more than {most_bytes} bytes came")
                    digest.update(part)
                    await self._offload.run(functools.partial(file.write, part))
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return Staged(str(path), digest.hexdigest(), length)

    async def discard(self, staged: Staged) -> None:
        """Remove the file."""
        await self._offload.run(lambda: Path(staged.path).unlink(missing_ok=True))
