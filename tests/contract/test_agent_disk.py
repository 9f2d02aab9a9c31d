"""The promises of `edge_agent.ports.Disk`, kept alike by the real file system and the simulator's disks in memory."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from edge_agent.adapters.posix_disk import PosixDisk, prepare
from edge_agent.errors import FileMissingError
from edge_agent.ports import Disk
from edge_agent.service.durable import write_atomic
from simulator.fakes.offload import InlineOffload
from simulator.live.disk import SharedDisk
from simulator.live.pool import Pool
from simulator.memory_disk import MemoryDisk

Check = Callable[[Disk], Awaitable[None]]


async def written_bytes_are_read_back(disk: Disk) -> None:
    """Create reserves, pwrite places, size and digest agree."""
    await disk.create("objects/a", 10)
    assert await disk.size("objects/a") == 10
    await disk.pwrite("objects/a", 4, b"abc")
    await disk.fsync("objects/a")
    data = await disk.read("objects/a")
    assert data == b"\0\0\0\0abc\0\0\0"
    assert await disk.digest("objects/a") == hashlib.sha256(data).hexdigest()
    pieces = (data[:4], data[4:8], data[8:])
    assert await disk.digests("objects/a", 4) == tuple(hashlib.sha256(piece).hexdigest() for piece in pieces)


async def create_replaces(disk: Disk) -> None:
    """An old file of that name is gone."""
    await disk.create("objects/a", 4)
    await disk.pwrite("objects/a", 0, b"abcd")
    await disk.create("objects/a", 2)
    assert await disk.read("objects/a") == b"\0\0"


async def rename_replaces_and_list_is_sorted(disk: Disk) -> None:
    """The source is gone, the target is the source."""
    for name in ("b", "a"):
        await disk.create(f"objects/{name}", 1)
        await disk.pwrite(f"objects/{name}", 0, name.encode())
    assert await disk.list("objects") == ("a", "b")
    await disk.rename("objects/b", "objects/a")
    await disk.fsync_dir("objects")
    assert await disk.list("objects") == ("a",)
    assert await disk.read("objects/a") == b"b"
    await disk.unlink("objects/a")
    assert await disk.list("objects") == ()


async def missing_files_are_named(disk: Disk) -> None:
    """By every operation that needs one."""
    for operation in (disk.read, disk.digest, disk.size, disk.fsync, disk.unlink):
        with pytest.raises(FileMissingError, match="nothing"):
            await operation("objects/nothing")
    with pytest.raises(FileMissingError, match="nothing"):
        await disk.rename("objects/nothing", "objects/b")
    with pytest.raises(FileMissingError, match="nothing"):
        await disk.pwrite("objects/nothing", 0, b"x")


async def a_record_is_replaced_as_a_whole(disk: Disk) -> None:
    """In the root, too; nothing temporary is left."""
    await write_atomic(disk, "state.json", b"one")
    await write_atomic(disk, "state.json", b"two!")
    assert await disk.read("state.json") == b"two!"
    assert "state.json.tmp" not in await disk.list("")


async def there_is_room(disk: Disk) -> None:
    """A number of bytes."""
    assert await disk.free_bytes() > 0


CHECKS: tuple[Check, ...] = (
    written_bytes_are_read_back,
    create_replaces,
    rename_replaces_and_list_is_sorted,
    missing_files_are_named,
    a_record_is_replaced_as_a_whole,
    there_is_room,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", ["posix", "memory", "shared"])
def test_disk(kind: str, check: Check, tmp_path: Path) -> None:
    """One promise on one disk."""
    prepare(tmp_path / "data")
    disks: dict[str, Callable[[], Disk]] = {
        "posix": lambda: PosixDisk(tmp_path / "data", InlineOffload()),
        "memory": MemoryDisk,
        "shared": lambda: SharedDisk(Pool()),
    }
    disk = disks[kind]()

    async def run() -> None:
        await check(disk)

    asyncio.run(run())
