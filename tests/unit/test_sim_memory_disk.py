"""The memory disk loses what was not synced, and only that; the tests on it would be worthless otherwise."""

import asyncio

import pytest

from edge_agent.errors import DiskFullError, FileMissingError
from edge_agent.service.durable import write_atomic
from simulator.core.rng import Rng
from simulator.memory_disk import MemoryDisk, PowerCutError


async def put(disk: MemoryDisk, path: str, data: bytes) -> None:
    """Create and write, without syncing."""
    await disk.create(path, len(data))
    await disk.pwrite(path, 0, data)


async def content(disk: MemoryDisk, path: str) -> bytes | None:
    """The file, or None."""
    try:
        return await disk.read(path)
    except FileMissingError:
        return None


def test_synced_content_under_a_synced_name_survives() -> None:
    """Whatever the seed."""

    async def scenario() -> None:
        for seed in range(50):
            disk = MemoryDisk()
            await put(disk, "d/file", b"content")
            await disk.fsync("d/file")
            await disk.fsync_dir("d")
            disk.crash(Rng(seed))
            assert await content(disk, "d/file") == b"content"

    asyncio.run(scenario())


def test_unsynced_bytes_and_names_meet_every_fate() -> None:
    """Over many seeds: gone, torn, zeroed and kept all happen."""

    async def scenario() -> set[bytes | None]:
        fates = set()
        for seed in range(200):
            disk = MemoryDisk()
            await put(disk, "file", b"content")
            disk.crash(Rng(seed))
            fates.add(await content(disk, "file"))
        return fates

    fates = asyncio.run(scenario())
    assert {None, b"", b"content", bytes(7)} <= fates
    assert any(fate not in (None, b"", b"content", bytes(7)) for fate in fates)


def test_a_name_synced_before_its_content_is_not_safe() -> None:
    """Syncing the directory says nothing of the bytes."""

    async def scenario() -> set[bytes | None]:
        found = set()
        for seed in range(50):
            disk = MemoryDisk()
            await put(disk, "file", b"content")
            await disk.fsync_dir("")
            disk.crash(Rng(seed))
            found.add(await content(disk, "file"))
        return found

    found = asyncio.run(scenario())
    assert None not in found
    assert len(found) > 1


def test_atomic_replacement_leaves_old_or_new_at_every_cut_point() -> None:
    """The agent's own way of writing records, cut at each operation with many seeds."""

    async def cut(at: int, seed: int) -> bytes | None:
        disk = MemoryDisk()
        await write_atomic(disk, "record", b"old")
        disk.cut_at = disk.operations + at
        with pytest.raises(PowerCutError):
            await write_atomic(disk, "record", b"new!")
        disk.crash(Rng(seed))
        return await content(disk, "record")

    seen = {asyncio.run(cut(at, seed)) for at in range(1, 6) for seed in range(30)}
    assert seen == {b"old", b"new!"}


def test_a_full_disk_says_so() -> None:
    """Creating and growing beyond the capacity is refused; removing gives the room back."""

    async def scenario() -> None:
        disk = MemoryDisk(capacity_bytes=10)
        await put(disk, "a", b"12345678")
        with pytest.raises(DiskFullError):
            await disk.create("b", 3)
        with pytest.raises(DiskFullError):
            await disk.pwrite("a", 8, b"123")
        await disk.unlink("a")
        await disk.create("b", 10)
        assert await disk.free_bytes() == 0

    asyncio.run(scenario())


def test_a_record_that_is_kept_in_pieces_is_a_file_like_any_other() -> None:
    """Read, written over, and left by a power cut as it was or as it was written."""
    record = bytes(range(256)) * 8

    async def scenario() -> None:
        fates = set()
        for seed in range(20):
            disk = MemoryDisk()
            disk.hold({"record": record})
            assert await content(disk, "record") == disk.peek("record") == record
            assert await disk.size("record") == disk.used_bytes == len(record)
            await disk.pwrite("record", 700, b"new")
            assert await content(disk, "record") == record[:700] + b"new" + record[703:]
            disk.crash(Rng(seed))
            fates.add(await content(disk, "record"))
        assert {record, record[:700] + b"new" + record[703:]} <= fates

    asyncio.run(scenario())
