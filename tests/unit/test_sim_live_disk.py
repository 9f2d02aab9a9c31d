"""What live devices share: equal contents are one object, and what is hashed is hashed once."""

import asyncio
import hashlib
import random
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.errors import DiskFullError, FileMissingError
from simulator.live.device import SharedTopics
from simulator.live.disk import SharedDisk
from simulator.live.pool import Pool
from wire.errors import TopicError
from wire.topics import Topics
from wire.transfer.chunks import CHUNK_BYTES

OBJECT = random.Random(3).randbytes(2 * CHUNK_BYTES + 500)


def run(scene: Coroutine[Any, Any, Any]) -> Any:
    """On a loop."""
    return asyncio.run(scene)


async def store(disk: SharedDisk, path: str, pieces: list[tuple[int, bytes]]) -> None:
    """Write the pieces in this order."""
    await disk.create(path, len(OBJECT))
    for offset, data in pieces:
        await disk.pwrite(path, offset, data)


def chunks(*order: int) -> list[tuple[int, bytes]]:
    """Chunks of the object, in this order."""
    return [(index * CHUNK_BYTES, OBJECT[index * CHUNK_BYTES :][:CHUNK_BYTES]) for index in order]


def test_the_same_object_on_many_disks_is_held_and_hashed_once() -> None:
    """Whatever the order and the grouping in which it came."""
    pool = Pool()
    disks = [SharedDisk(pool) for _ in range(3)]
    run(store(disks[0], "objects/a", chunks(0, 1, 2)))
    run(store(disks[1], "objects/b", chunks(2, 0, 1)))
    run(store(disks[2], "objects/c", [(0, OBJECT)]))
    digests = [run(disk.digest(f"objects/{name}")) for disk, name in zip(disks, "abc", strict=True)]
    assert digests == [hashlib.sha256(OBJECT).hexdigest()] * 3
    assert pool.hashed == 1
    assert pool.held_bytes < len(OBJECT) + 1024
    assert sum(disk.used_bytes for disk in disks) == 3 * len(OBJECT)


def test_a_damaged_byte_is_another_content_with_another_digest() -> None:
    """Sharing never takes one content for another."""
    pool = Pool()
    good, bad = SharedDisk(pool), SharedDisk(pool)
    run(store(good, "objects/a", [(0, OBJECT)]))
    run(store(bad, "objects/a", [(0, OBJECT), (CHUNK_BYTES + 70, b"!")]))
    assert run(good.digest("objects/a")) != run(bad.digest("objects/a"))
    assert run(bad.read("objects/a"))[CHUNK_BYTES + 70 : CHUNK_BYTES + 71] == b"!"


def test_a_chunk_damaged_in_the_middle_of_a_longer_write_is_not_taken_for_the_whole_one() -> None:
    """Chunks written together are looked for one by one, and compared byte for byte."""
    pool = Pool()
    good, bad = SharedDisk(pool), SharedDisk(pool)
    middle = CHUNK_BYTES + CHUNK_BYTES // 2
    damaged = OBJECT[:middle] + bytes([OBJECT[middle] ^ 1]) + OBJECT[middle + 1 :]
    run(store(good, "objects/a", chunks(0, 1, 2)))
    run(store(bad, "objects/a", [(0, damaged)]))
    kept = run(bad.read("objects/a")) == damaged
    assert kept
    assert pool.held_bytes < 4 * CHUNK_BYTES


def test_topics_of_chunks_are_taken_apart_once_and_no_others() -> None:
    """As any topics, with the chunk as the same object for every device."""
    topics, plain = SharedTopics("fleet"), Topics("fleet")
    chunk, desired = topics.blob("ab" * 32, 7), topics.dn("live-1", "desired")
    assert topics.parse(chunk) is topics.parse(chunk)
    assert (topics.parse(chunk), topics.parse(desired)) == (plain.parse(chunk), plain.parse(desired))
    assert topics.parse(desired) is not topics.parse(desired)
    with pytest.raises(TopicError):
        topics.parse("fleet/blob/nothing")


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3 * CHUNK_BYTES), st.binary(min_size=1, max_size=2000)), max_size=8))
def test_it_reads_back_what_a_file_would(writes: list[tuple[int, bytes]]) -> None:
    """Any writes, on and off the grid of chunks, with holes of zeros."""
    disk, expected = SharedDisk(Pool()), bytearray(100)

    async def scene() -> bytes:
        await disk.create("objects/a", 100)
        for offset, data in writes:
            await disk.pwrite("objects/a", offset, data)
            expected.extend(bytes(max(0, offset + len(data) - len(expected))))
            expected[offset : offset + len(data)] = data
        return await disk.read("objects/a")

    same = run(scene()) == bytes(expected)
    assert same
    assert run(disk.digest("objects/a")) == hashlib.sha256(expected).hexdigest()


def test_it_is_bounded_and_says_what_is_missing() -> None:
    """As the agent expects of a disk."""
    disk = SharedDisk(Pool(), capacity_bytes=1000)
    with pytest.raises(DiskFullError):
        run(disk.create("objects/a", 1001))
    with pytest.raises(FileMissingError):
        run(disk.read("objects/a"))
