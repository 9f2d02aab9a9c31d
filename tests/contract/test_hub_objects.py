"""What every object store does: a local directory, a filesystem of another kind behind fsspec, and the simulator's."""

import asyncio
import hashlib
import os
import resource
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import fsspec
import pytest

from cloud.adapters.fsspec_objects import FsspecObjects
from cloud.ports import ObjectMissingError, Objects, ObjectStoreError, Staged
from simulator.fakes.offload import InlineOffload
from simulator.fakes.store import MemoryObjects
from wire.adapters.system import ThreadOffload

DATA = b"a model" * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()
Make = Callable[[], Objects]


@pytest.fixture(params=["directory", "memory filesystem", "simulator"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """How a store is opened; opening it again finds what is there."""
    if request.param == "directory":
        return lambda: FsspecObjects(str(tmp_path / "objects"), InlineOffload())
    if request.param == "memory filesystem":
        url = f"memory://{tmp_path.name}"
        return lambda: FsspecObjects(url, InlineOffload())
    one = MemoryObjects()
    return lambda: one


def run(call: Coroutine[Any, Any, None]) -> None:
    """In a loop of its own."""
    asyncio.run(call)


def test_what_was_put_is_there_for_the_next_hub(make: Make) -> None:
    """Whole, in pieces, and checked."""

    async def scenario() -> None:
        assert await make().put(DATA) == DIGEST
        assert await make().put(DATA) == DIGEST
        store = make()
        assert await store.get(DIGEST) == DATA
        assert await store.verify(DIGEST) == len(DATA)
        assert await store.piece(DIGEST, 3, 10) == DATA[3:13]
        assert await store.piece(DIGEST, len(DATA) - 4, 10) == DATA[-4:]

    run(scenario())


def test_a_staged_file_is_adopted_and_stays(make: Make, tmp_path: Path) -> None:
    """Whoever staged it removes it."""

    async def scenario() -> None:
        path = tmp_path / "upload"
        path.write_bytes(DATA)
        await make().adopt(Staged(str(path), DIGEST, len(DATA)))
        assert await make().get(DIGEST) == DATA
        assert path.read_bytes() == DATA

    run(scenario())


@pytest.mark.parametrize("name", ["0" * 64, "../../etc/passwd", "/etc/passwd", "A" * 64, ""])
def test_what_is_not_there_is_missing(make: Make, name: str) -> None:
    """Whatever it is called; no name leads anywhere else."""

    async def scenario() -> None:
        for read in (make().get(name), make().verify(name), make().piece(name, 0, 1)):
            with pytest.raises(ObjectMissingError):
                await read

    run(scenario())


def test_no_name_leads_to_another_file(tmp_path: Path) -> None:
    """Not even to one that is there, and that nobody would check."""

    async def scenario() -> None:
        (tmp_path / "director.key").write_text("secret")
        (tmp_path / "hub" / "objects").mkdir(parents=True)
        store = FsspecObjects(str(tmp_path / "hub" / "objects"), InlineOffload())
        with pytest.raises(ObjectMissingError, match="named by their SHA-256"):
            await store.piece("../director.key", 0, 100)

    run(scenario())


def test_damage_is_found_by_reading_and_mended_by_nothing(tmp_path: Path) -> None:
    """The digest is the name: other bytes under it are no object."""

    async def scenario() -> None:
        store = FsspecObjects("memory://damaged", InlineOffload())
        await store.put(DATA)
        fsspec.filesystem("memory").pipe_file(f"/damaged/{DIGEST[:2]}/{DIGEST}", b"b" + DATA[1:])
        for read in (store.get(DIGEST), store.verify(DIGEST)):
            with pytest.raises(ObjectMissingError, match="damaged"):
                await read

    run(scenario())


def test_a_part_of_a_file_has_no_name(tmp_path: Path) -> None:
    """What a kill leaves of a write is replaced by the next one."""

    async def scenario() -> None:
        store = FsspecObjects(str(tmp_path), InlineOffload())
        folder = tmp_path / DIGEST[:2]
        folder.mkdir()
        (folder / f"{DIGEST}.part").write_bytes(DATA[:10])
        (folder / DIGEST).write_bytes(DATA[:10])
        await store.put(DATA)
        assert [path.name for path in folder.iterdir()] == [DIGEST]
        assert await store.get(DIGEST) == DATA

    run(scenario())


def test_two_may_store_the_same_object_at_once(tmp_path: Path) -> None:
    """One is slow, the other one overtakes it; both are told that it is there, and it is, without leftovers."""

    async def scenario() -> None:
        store = FsspecObjects(str(tmp_path / "objects"), ThreadOffload(2))
        pipe = tmp_path / "upload"
        os.mkfifo(pipe)
        slow = asyncio.create_task(store.adopt(Staged(str(pipe), DIGEST, len(DATA))))
        with await asyncio.to_thread(pipe.open, "wb", buffering=0) as writer:
            writer.write(DATA[:100])
            folder = tmp_path / "objects" / DIGEST[:2]
            while not list(folder.glob("*.part")):
                await asyncio.sleep(0)
            assert await store.put(DATA) == DIGEST
            writer.write(DATA[100:])
        await slow
        assert [path.name for path in folder.iterdir()] == [DIGEST]
        assert await store.get(DIGEST) == DATA

    run(scenario())


def test_what_could_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    """There is room for a part of it only: trying again and again does not fill the disk."""

    async def scenario() -> None:
        store, (soft, hard) = FsspecObjects(str(tmp_path), InlineOffload()), resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(DATA) // 2, hard))
        try:
            with pytest.raises(ObjectStoreError, match="see that there is room"):
                await store.put(DATA)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert not list((tmp_path / DIGEST[:2]).iterdir())

    run(scenario())


def test_a_store_without_room_says_so(tmp_path: Path) -> None:
    """The directory is a file here."""

    async def scenario() -> None:
        (tmp_path / "objects").write_text("in the way")
        with pytest.raises(ObjectStoreError, match="cannot be stored"):
            await FsspecObjects(str(tmp_path / "objects"), InlineOffload()).put(DATA)

    run(scenario())
