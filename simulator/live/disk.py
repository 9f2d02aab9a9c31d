"""The disk of a live device: files in memory whose contents are shared with the other devices of the process.

It loses no power: that is what virtual time is for. Satisfies `edge_agent.ports.Disk`.
"""

import hashlib
import sys
from collections.abc import Iterator

from edge_agent.errors import DiskFullError, FileMissingError
from simulator.live.pool import Pool
from wire.transfer.chunks import CHUNK_BYTES

SHARED = ("objects/", "trust/")
"""Directories of what the hub gives to many."""


class _File:
    """Blocks on a grid of chunks; what lies beyond the end of a block, up to the next one, is zeros."""

    __slots__ = ("blocks", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.blocks: tuple[bytes, ...] = ()

    def whole(self) -> tuple[bytes, ...]:
        """All blocks with their zeros."""
        if len(self.blocks) == 1 and len(self.blocks[0]) == self.size:
            return self.blocks
        return tuple(self._padded(number, start) for number, start in enumerate(range(0, self.size, CHUNK_BYTES)))

    def write(self, offset: int, data: bytes, pool: Pool | None) -> None:
        """Put `data` at `offset`; new contents of blocks go through the pool."""
        blocks, last = list(self.blocks), (offset + len(data) - 1) // CHUNK_BYTES
        blocks += [b""] * (last + 1 - len(blocks))
        for number, inner, start, end in _on_grid(offset, len(data)):
            before, stop = blocks[number], inner + end - start
            if inner or stop < len(before):
                whole = before[:inner].ljust(inner, b"\0") + data[start:end] + before[stop:]
                blocks[number] = pool.share(whole) if pool else whole
            else:
                blocks[number] = pool.share_part(data, start, end) if pool else data[start:end]
        self.blocks = pool.together(blocks) if pool else tuple(blocks)
        self.size = max(self.size, offset + len(data))

    def _padded(self, number: int, start: int) -> bytes:
        length = min(CHUNK_BYTES, self.size - start)
        block = self.blocks[number] if number < len(self.blocks) else b""
        return block if len(block) == length else block.ljust(length, b"\0")


class SharedDisk:
    """The data directory of one device."""

    __slots__ = ("_capacity_bytes", "_files", "_pool", "used_bytes")

    def __init__(self, pool: Pool, capacity_bytes: int = 1 << 30) -> None:
        self._pool = pool
        self._capacity_bytes = capacity_bytes
        self._files: dict[str, _File] = {}
        self.used_bytes = 0
        """Length of all files: what they would take if nothing were shared."""

    async def read(self, path: str) -> bytes:
        """The whole file."""
        blocks = self._file(path).whole()
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    async def digest(self, path: str) -> str:
        """SHA-256 (hex) of the file; computed once for all devices that hold these very bytes."""
        return self._pool.digest(self._file(path).whole())

    async def digests(self, path: str, piece_bytes: int) -> tuple[str, ...]:
        """SHA-256 (hex) of each piece."""
        data = await self.read(path)
        pieces = (data[start : start + piece_bytes] for start in range(0, len(data), piece_bytes))
        return tuple(hashlib.sha256(piece).hexdigest() for piece in pieces)

    async def size(self, path: str) -> int:
        """Length in bytes."""
        return self._file(path).size

    async def create(self, path: str, size: int) -> None:
        """An empty file of `size` bytes."""
        replaced = self._files.get(path)
        self._grow(path, size - (replaced.size if replaced else 0))
        self._files[sys.intern(path)] = _File(size)

    async def pwrite(self, path: str, offset: int, data: bytes) -> None:
        """Write at `offset`."""
        file = self._file(path)
        self._grow(path, max(0, offset + len(data) - file.size))
        file.write(offset, data, self._pool if path.startswith(SHARED) else None)

    async def fsync(self, path: str) -> None:
        """Everything is as durable as it gets."""
        self._file(path)

    async def rename(self, source: str, target: str) -> None:
        """Rename, replacing `target`."""
        moved, replaced = self._file(source), self._files.get(target)
        self._grow(target, -replaced.size if replaced else 0)
        del self._files[source]
        self._files[sys.intern(target)] = moved  # the name of an object is the same on all disks

    async def unlink(self, path: str) -> None:
        """Remove the file."""
        self._grow(path, -self._file(path).size)
        del self._files[path]

    async def fsync_dir(self, path: str) -> None:
        """Everything is as durable as it gets."""

    async def list(self, path: str) -> tuple[str, ...]:
        """Names in a directory, sorted."""
        parts = (name.rpartition("/") for name in self._files)
        return tuple(sorted(name for folder, _, name in parts if folder == path))

    async def free_bytes(self) -> int:
        """Room left."""
        return self._capacity_bytes - self.used_bytes

    def _file(self, path: str) -> _File:
        file = self._files.get(path)
        if file is None:
            raise FileMissingError(f"no file {path}")
        return file

    def _grow(self, path: str, by: int) -> None:
        if by > self._capacity_bytes - self.used_bytes:
            raise DiskFullError(f"{path}: no room for {by} bytes")
        self.used_bytes += by


def _on_grid(offset: int, length: int) -> Iterator[tuple[int, int, int, int]]:
    """Of `length` bytes at `offset`: (number of the block, place in it, which of the bytes go there, from and to)."""
    done = 0
    while done < length:
        number, inner = divmod(offset + done, CHUNK_BYTES)
        end = min(length, done + CHUNK_BYTES - inner)
        yield number, inner, done, end
        done = end
