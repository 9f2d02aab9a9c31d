"""A sync that fails once, at each place of an update: what the kernel then holds for clean is not on the disk.

A second sync of the same bytes would succeed and prove nothing; they have to be written again.
"""

import copy

import numpy as np
import pytest

from edge_agent.errors import DiskError
from simulator.core.clock import VirtualClock
from simulator.core.loop import VirtualLoop
from simulator.core.power import Content
from simulator.core.rng import Rng
from simulator.memory_disk import MemoryDisk
from tests.worlds.agent_world import DEVICE, TOPICS, Air, AirLink, Gear, assign, device, ship, wanted
from wire.messages import Outcome, Phase
from wire.ports import SECOND

ONE, TWO = ship(1), ship(2)
MODEL = f"objects/{TWO.release.variants[0].file.sha256}"


class LyingDisk(MemoryDisk):
    """Its `fails_at`th sync is an I/O error; the bytes it was for are in the cache only, and count as clean."""

    def __init__(self) -> None:
        super().__init__()
        self.syncs = 0
        self.fails_at = 0

    async def fsync(self, path: str) -> None:
        """Only what was written since the last sync, successful or not, gets onto the disk."""
        if self._counts():
            await self._turn()
        number = self._number(path)
        content = self._files[number]
        self._files[number] = Content(content.durable, content.size)
        self._count(path)
        data = bytearray(content.durable.ljust(content.size, b"\0"))
        for offset, written in content.writes:
            data[offset : offset + len(written)] = written
        self._files[number] = Content(bytes(data), content.size)

    async def fsync_dir(self, path: str) -> None:
        """Names have no such cache."""
        self._count(path)
        await super().fsync_dir(path)

    def _count(self, path: str) -> None:
        self.syncs += 1
        if self.syncs == self.fails_at:
            raise DiskError(f"{path}: Input/output error")


def update(disk: LyingDisk) -> None:
    """Bring the device to version 2, with as many attempts as it takes; the model before it answers all the time."""
    loop = VirtualLoop(Rng(7))
    clock = VirtualClock(loop)

    async def live() -> None:
        air = Air()
        for one in (ONE, TWO):
            air.hold(one)
        async with device(Gear(disk, clock, AirLink(air))) as unit:
            for attempt in range(1, 5):
                air.retained[TOPICS.dn(DEVICE, "desired")] = b""
                air.desire(assign(10 + attempt, wanted(TWO, "e2", attempt=attempt)))
                for _ in range(400):
                    assert (await unit.inference.predict(np.zeros(4, np.float32))).version in (1, 2)
                    await clock.sleep(SECOND // 20)
                    slot = unit.reconciler.record.slot("main")
                    if slot.outcome is Outcome.SUCCEEDED and slot.current and slot.current.installed.version == 2:
                        return
                    if slot.phase is Phase.FAILED and slot.desired and slot.desired.execution.attempt == attempt:
                        assert slot.outcome is Outcome.FAILED_NO_CHANGE, slot.reason
                        break
            raise AssertionError(f"not committed: {unit.reconciler.record}")

    loop.run(live())


@pytest.fixture(scope="module")
def version_one() -> LyingDisk:
    """The disk of a device that committed version 1."""
    disk, loop = LyingDisk(), VirtualLoop(Rng(7))
    clock = VirtualClock(loop)

    async def live() -> None:
        air = Air()
        air.hold(ONE)
        async with device(Gear(disk, clock, AirLink(air))) as unit:
            air.desire(assign(1, wanted(ONE, "e1")))
            while unit.reconciler.record.slot("main").phase is not Phase.COMMITTED:
                await clock.sleep(SECOND // 20)

    loop.run(live())
    return disk


def test_after_any_failed_sync_the_update_ends_well_and_its_files_are_on_the_disk(version_one: LyingDisk) -> None:
    """Then the power fails: the model that was committed is there, whole."""
    disk = copy.deepcopy(version_one)
    disk.syncs = 0
    update(disk)
    assert disk.syncs > 20
    for number in range(1, disk.syncs + 1):
        again = copy.deepcopy(version_one)
        again.syncs, again.fails_at = 0, number
        update(again)
        again.crash(Rng(number))
        whole = again.peek(MODEL) == TWO.files[TWO.release.variants[0].file.sha256]
        assert whole, f"sync {number} failed"  # pytest would compare the bytes for minutes, to explain what is expected


def test_the_harness_sees_a_file_that_is_synced_twice(version_one: LyingDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that asked again instead of writing again would lose the model."""
    once = LyingDisk.fsync

    async def twice(self: LyingDisk, path: str) -> None:
        try:
            await once(self, path)
        except DiskError:
            await once(self, path)

    monkeypatch.setattr(LyingDisk, "fsync", twice)
    with pytest.raises(AssertionError):
        test_after_any_failed_sync_the_update_ends_well_and_its_files_are_on_the_disk(version_one)
