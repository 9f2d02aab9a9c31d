"""Power cuts and kills at every operation of an update: whatever is lost, the device comes back with a model.

The real services run in virtual time: on a disk that forgets what was not synced, each time in another way, and on the
real file system in a process that ends at that operation.
"""

import copy
import gc
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from edge_agent.adapters.posix_disk import PosixDisk, prepare
from edge_agent.errors import DamagedRecordError
from edge_agent.ports import Disk
from simulator.core.clock import VirtualClock
from simulator.core.loop import VirtualLoop
from simulator.core.rng import Rng
from simulator.fakes.offload import InlineOffload
from simulator.memory_disk import MemoryDisk, PowerCutError
from tests.agent_world import DEVICE, TOPICS, Air, AirLink, Gear, assign, device, ship, wanted
from wire.messages import Phase
from wire.ports import SECOND

ONE, TWO = ship(1), ship(2)
T = TypeVar("T")

KILLED = 9
STRIDE = 5
SEEDS = 4
TYPICAL = 100
"""Operations of an update, about."""


def air_holding(envelope: bytes) -> Air:
    """Both releases and one desired document."""
    air = Air()
    air.hold(ONE)
    air.hold(TWO)
    air.retained[TOPICS.dn(DEVICE, "desired")] = envelope
    return air


def life(disk: Disk, envelope: bytes, version: int, check: Callable[[int], None] = lambda version: None) -> bool:
    """One life of the device until `version` is committed; False: the power went first. `check` gets what answers."""
    loop = VirtualLoop(Rng(7))
    clock = VirtualClock(loop)
    crashes: list[BaseException] = []

    async def live() -> bool:
        air = air_holding(envelope)
        try:
            async with device(Gear(disk, clock, AirLink(air)), crashes.append) as unit:
                if unit.inference.slots:
                    check((await unit.inference.predict(np.zeros(4, np.float32))).version)
                for _ in range(400):
                    if crashes:
                        return False
                    slots = unit.reconciler.record.slots
                    current = slots["main"].current if slots else None
                    if current and current.installed.version == version and slots["main"].phase is Phase.COMMITTED:
                        return True
                    await clock.sleep(SECOND // 20)
                raise AssertionError(f"not committed: {unit.reconciler.record}")
        except PowerCutError:
            return False

    alive = loop.run(live())
    assert all(isinstance(error, PowerCutError) for error in crashes), crashes
    return alive


class MortalDisk(PosixDisk):
    """The real file system, in a process that dies at its `dies_at`th operation."""

    def __init__(self, root: Path, dies_at: int = 0) -> None:
        super().__init__(root, InlineOffload())
        self.operations = 0
        self._dies_at = dies_at

    async def _run(self, call: Callable[[], T]) -> T:
        self.operations += 1
        if self.operations == self._dies_at:
            os._exit(KILLED)
        return await super()._run(call)


@pytest.fixture(autouse=True, scope="module")
def _quick_collections() -> Iterator[None]:
    """Every life ends with a full garbage collection; what was there before the lives need not be looked at."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def version_one(_quick_collections: None) -> MemoryDisk:
    """The disk of a device that committed version 1, all of it durable. To be copied."""
    disk = MemoryDisk()
    assert life(disk, assign(1, wanted(ONE, "e1")), 1)
    disk.crash(Rng(1))
    return disk


def update_with_cuts(version_one: MemoryDisk, at: int, rng: Rng) -> list[int]:
    """Update to version 2, cut at operation `at` and again in the recovery; returns what answered at the starts."""
    disk = copy.deepcopy(version_one)
    answered: list[int] = []
    for cut in (at, 1 + rng.below(TYPICAL)):
        disk.operations, disk.cut_at = 0, cut
        life(disk, assign(2, wanted(TWO, "e2")), 2, answered.append)
        disk.crash(rng)
    assert life(disk, assign(2, wanted(TWO, "e2")), 2, answered.append), f"cut at {at}"
    return answered


@pytest.mark.parametrize("seed", range(SEEDS))
def test_after_a_power_cut_at_any_operation_a_committed_model_answers_and_the_update_ends(
    seed: int, version_one: MemoryDisk
) -> None:
    """Cut once at each operation, then once more inside the recovery, then let it finish."""
    disk = copy.deepcopy(version_one)
    disk.operations = 0
    assert life(disk, assign(2, wanted(TWO, "e2")), 2)
    assert disk.operations > 60
    for at in range(1, disk.operations + 1):
        answered = update_with_cuts(version_one, at, Rng(seed, str(at)))
        assert answered, f"no model answered at any start after a cut at {at}"
        assert set(answered) <= {1, 2}


def test_the_harness_sees_a_device_that_does_not_sync(version_one: MemoryDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without fsync, some cut leaves a record or a model that cannot be used."""

    async def forgetful(self: MemoryDisk, path: str) -> None:
        await self._step()

    monkeypatch.setattr(MemoryDisk, "fsync", forgetful)
    broken = 0
    for at in range(20, 109):
        try:
            update_with_cuts(version_one, at, Rng(0, str(at)))
        except (DamagedRecordError, AssertionError):
            broken += 1
            break
    assert broken


def test_killed_at_any_operation_on_the_real_file_system_it_goes_on_with_a_model(tmp_path: Path) -> None:
    """A process for every STRIDE-th operation of the update; the next one finds a model and finishes."""
    prepare(tmp_path / "one")
    assert life(MortalDisk(tmp_path / "one"), assign(1, wanted(ONE, "e1")), 1)
    update = assign(2, wanted(TWO, "e2"))
    at, killed = 1, KILLED
    while killed == KILLED:
        root = tmp_path / f"at{at}"
        shutil.copytree(tmp_path / "one", root)
        child = os.fork()
        if child == 0:
            try:
                life(MortalDisk(root, dies_at=at), update, 2)
            finally:
                os._exit(0)
        killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        answered: list[int] = []
        assert life(MortalDisk(root), update, 2, answered.append), f"killed at {at}"
        assert answered, f"no model answered after a kill at {at}"
        shutil.rmtree(root)
        at += STRIDE
    assert at > 60
