"""A system that fails for a moment: the device does not take its model for damaged because of that."""

import asyncio
import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.adapters.posix_disk import PosixDisk, prepare
from edge_agent.core.pointer import Record
from edge_agent.errors import DiskBusyError, DiskError, ModelError
from edge_agent.service.durable import Journal, write_atomic
from edge_agent.service.objects import Objects, path_of
from simulator.fakes.offload import InlineOffload
from simulator.fakes.runtime import LightRuntime, LightSession
from simulator.memory_disk import MemoryDisk
from tests.worlds.agent_world import Air, AirLink, Gear, assign, committed, device, ship, wanted
from wire.adapters.system import SystemClock
from wire.release import object_ref

DATA = b"a model"
SHA256 = object_ref(DATA).sha256


@contextlib.contextmanager
def no_more_files() -> Iterator[None]:
    """This process may open no file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull, "rb") as last:
        resource.setrlimit(resource.RLIMIT_NOFILE, (last.fileno() + 1, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_file_that_cannot_be_opened_for_now_is_neither_here_nor_damaged(tmp_path: Path) -> None:
    """The start fails and is made again, instead of going on without the model."""

    async def scenario() -> None:
        prepare(tmp_path)
        disk = PosixDisk(tmp_path, InlineOffload())
        objects = Objects(disk)
        await write_atomic(disk, path_of(SHA256), DATA)
        with no_more_files(), pytest.raises(DiskBusyError):
            await objects.holds(SHA256)
        assert await objects.holds(SHA256)

    asyncio.run(scenario())


def test_a_record_that_cannot_be_opened_for_now_is_not_damaged(tmp_path: Path) -> None:
    """Its older copy is not taken for the newest."""

    async def scenario() -> None:
        prepare(tmp_path)
        journal = Journal(PosixDisk(tmp_path, InlineOffload()))
        await journal.save(Record(boot=3))
        with no_more_files(), pytest.raises(DiskBusyError):
            await journal.load()
        assert (await journal.load()).boot == 3

    asyncio.run(scenario())


def test_a_file_that_the_disk_cannot_read_is_not_here(tmp_path: Path) -> None:
    """As one that has rotted: it is fetched again."""

    class Rotten(PosixDisk):
        async def digest(self, path: str) -> str:
            """Fail as a bad sector does."""
            raise DiskError(f"input/output error: {path}")

    assert not asyncio.run(Objects(Rotten(tmp_path, InlineOffload())).holds(SHA256))


class Hiccups(MemoryDisk):
    """Fails the first time that each file is read or hashed."""

    def __init__(self) -> None:
        super().__init__()
        self.failing = False
        self.failed: set[str] = set()

    async def read(self, path: str) -> bytes:
        """Fail once."""
        if self.failing and path.startswith("objects/") and path not in self.failed:
            self.failed.add(path)
            raise DiskError(f"input/output error: {path}")
        return await super().read(path)


class SlowStarter(LightRuntime):
    """Fails the first time that a model is loaded."""

    loads = 0

    async def load(self, path: str) -> LightSession:
        """Fail once."""
        self.loads += 1
        if self.loads == 1:
            raise ModelError("too many open files")
        return await super().load(path)


def test_errors_that_do_not_last_cost_no_model() -> None:
    """A committed model is served after a start at which nothing could be read, or loaded, the first time."""

    async def scenario() -> None:
        one, air, disk, clock = ship(1), Air(), Hiccups(), SystemClock()
        air.hold(one)
        async with device(Gear(disk, clock, AirLink(air))):
            air.desire(assign(1, wanted(one, "e1")))
            await air.slot(committed(1))
        disk.failing = True
        runtime = SlowStarter(disk, clock)
        async with device(Gear(disk, clock, AirLink(air), runtime=runtime)) as unit:
            assert unit.inference.ready().deployed.installed.version == 1
        assert len(disk.failed) >= 2
        assert runtime.loads == 2

    asyncio.run(scenario())
