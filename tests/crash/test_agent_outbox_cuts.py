"""Power cuts at every operation of the outbox: what was on the disk is there again, or counted as dropped."""

import asyncio
from dataclasses import dataclass, field

import pytest

from edge_agent.service.outbox import FOLDER, Outbox
from edge_agent.service.tasks import Tasks
from simulator.core.clock import VirtualClock
from simulator.core.loop import VirtualLoop
from simulator.core.rng import Rng
from simulator.memory_disk import MemoryDisk, PowerCutError

MAX_BYTES = 4096
MESSAGES = 60
STRIDE = 6


@dataclass
class Story:
    """What a device did before its power failed."""

    put: dict[int, bytes] = field(default_factory=dict)
    safe: set[int] = field(default_factory=set)
    receipted: int = 0
    dropped: int = 0
    """As of the last time that everything was on the disk."""
    last: int = 0


def payload(seq: int) -> bytes:
    """Of one message."""
    return b"%d " % seq * (10 + seq % 23)


def size_of(disk: MemoryDisk) -> int:
    """Bytes of all segments as they are now."""
    return sum(len(disk.peek(path) or b"") for path in disk.paths if path.startswith(FOLDER))


async def live(disk: MemoryDisk, clock: VirtualClock, story: Story, rng: Rng) -> None:
    """Messages are put and spooled, some are receipted, and in the end many more than there is room for."""
    crashes: list[BaseException] = []
    outbox = Outbox(disk, clock, Tasks(crashes.append), MAX_BYTES)
    await outbox.open()
    for _ in range(MESSAGES):
        story.last += 1
        story.put[story.last] = payload(story.last)
        outbox.put(story.last, payload(story.last))
        if rng.chance(0.5):
            await outbox.spool()
            story.safe |= {seq for seq in story.put if seq > outbox.done}
            story.dropped = outbox.dropped
            assert size_of(disk) <= MAX_BYTES
        if rng.chance(0.1):
            story.receipted = max(story.receipted, outbox.done + rng.below(3))
            outbox.receipted(story.receipted)
        await asyncio.sleep(0)
        if crashes:
            raise crashes[0]
    outbox.stop()


async def check(disk: MemoryDisk, clock: VirtualClock, story: Story) -> None:
    """The promises, on the disk as it is after the cut."""
    outbox = Outbox(disk, clock, Tasks(lambda error: None), MAX_BYTES)
    await outbox.open()
    found = {frame.seq: frame.payload for frame in await outbox.next(0, 10_000)}
    assert list(found) == sorted(found)
    assert all(story.put[seq] == data for seq, data in found.items())
    missing = [seq for seq in story.safe if seq not in found and seq > story.receipted]
    assert len(missing) <= outbox.dropped, "something went that was not counted"
    assert not missing or max(missing) < min(found, default=story.last + 1), "the oldest go first"
    assert outbox.dropped >= story.dropped, "the count never falls"
    assert size_of(disk) <= MAX_BYTES
    story.put, story.safe, story.dropped = found, set(found), outbox.dropped


def run(disk: MemoryDisk, story: Story, seed: int, cut_at: int | None) -> bool:
    """One life; was it cut?"""
    loop = VirtualLoop(Rng(seed))
    disk.operations, disk.cut_at = 0, cut_at

    async def whole() -> bool:
        try:
            await live(disk, VirtualClock(loop), story, Rng(seed, "life"))
        except PowerCutError:
            return True
        return False

    return loop.run(whole())


@pytest.mark.parametrize("seed", range(4))
def test_after_a_power_cut_at_any_operation_messages_are_there_or_counted(seed: int) -> None:
    """Each seed takes other operations; another life begins on what is left and is cut in its turn."""
    whole = MemoryDisk()
    assert not run(whole, Story(), seed, None)
    for at in range(1 + seed, whole.operations + 1, STRIDE):
        disk, story, rng = MemoryDisk(), Story(), Rng(seed, str(at))
        for cut in (at, 1 + rng.below(40)):
            run(disk, story, seed, cut)
            disk.crash(rng)
            loop = VirtualLoop(Rng(seed))
            loop.run(check(disk, VirtualClock(loop), story))
            story.last += 100  # numbers go on in the next life, with a gap: the boot number is in them


def test_the_harness_sees_an_outbox_that_does_not_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then something goes that was not counted."""

    async def forgetful(self: MemoryDisk, path: str) -> None:
        if self._counts():
            await self._turn()

    monkeypatch.setattr(MemoryDisk, "fsync", forgetful)
    with pytest.raises(AssertionError):
        test_after_a_power_cut_at_any_operation_messages_are_there_or_counted(0)
