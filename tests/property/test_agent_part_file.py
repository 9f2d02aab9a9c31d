"""The part file of a download under power cuts: what its record says is durable is there, and a cut costs one group."""

import asyncio
import random

import pytest

from edge_agent.errors import RefusedError
from edge_agent.service.objects import path_of
from edge_agent.service.part_file import PartFile
from simulator.core.rng import Rng
from simulator.memory_disk import MemoryDisk, PowerCutError
from wire.release import object_ref
from wire.transfer import bitmap
from wire.transfer.chunks import CHUNK_BYTES, count, frame
from wire.transfer.receiver import GROUP, Output, Receiver, Request, Sync, Write

DATA = random.Random(3).randbytes(2 * GROUP * CHUNK_BYTES + 5)
REF = object_ref(DATA)
CHUNKS = count(REF.bytes)


class Life:
    """One attempt to fetch the object through a perfect network."""

    def __init__(self, disk: MemoryDisk) -> None:
        self._part = PartFile(disk, REF)
        self.found: frozenset[int] = frozenset()
        self.written: set[int] = set()

    def run(self) -> bool:
        """False: the power went."""
        try:
            asyncio.run(self._fetch())
        except PowerCutError:
            return False
        return True

    async def _fetch(self) -> None:
        have = await self._part.open()
        self.found = bitmap.unpack(have, CHUNKS)
        self.written |= self.found
        self._receiver = Receiver(REF, have)
        await self._act(self._receiver.start())
        await self._part.finish()

    async def _act(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Request):
                for index in output.indices:
                    await self._act(self._receiver.on_chunk(index, frame(DATA, index)))
            elif isinstance(output, Write):
                await self._part.write(output.offset, output.data)
                self.written.add(output.index)
                await self._act(self._receiver.on_written(output.index))
            elif isinstance(output, Sync):
                await self._part.sync(output.have)


def damaged(disk: MemoryDisk, named: frozenset[int]) -> list[int]:
    """Chunks that the record names and that are not in the part file."""
    part = disk.peek(f"objects/.{REF.sha256}.part") or b""
    spans = {index: slice(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES) for index in named}
    return [index for index, span in spans.items() if part[span] != DATA[span]]


@pytest.mark.parametrize("seed", range(2))
def test_a_power_cut_at_any_operation_costs_one_group_at_most(seed: int) -> None:
    """Cut once, and again in the resumption; the record never names a chunk that is not there."""
    whole = MemoryDisk()
    assert Life(whole).run()
    for at in range(1, whole.operations + 1):
        disk, rng = MemoryDisk(), Rng(seed, str(at))
        for cut in (at, 1 + rng.below(whole.operations)):
            disk.operations, disk.cut_at = 0, cut
            life = Life(disk)
            finished = life.run()
            disk.crash(rng)
            if finished or disk.peek(path_of(REF.sha256)):
                break
            found = bitmap.unpack(asyncio.run(PartFile(disk, REF).held()), CHUNKS)
            assert damaged(disk, found) == []
            assert len(life.written) - len(found) <= GROUP
        assert disk.peek(path_of(REF.sha256)) or Life(disk).run()
        assert disk.peek(path_of(REF.sha256)) == DATA, f"cut at {at}"


def test_a_wrong_chunk_costs_that_chunk_alone() -> None:
    """It is found when the whole digest does not match; the others are known to be good, durably."""

    async def scenario() -> None:
        disk = MemoryDisk()
        part = PartFile(disk, REF)
        await part.open()
        await part.write(0, DATA)
        await part.write(5 * CHUNK_BYTES + 9, b"?")
        with pytest.raises(RefusedError, match="what arrived has digest"):
            await part.finish()
        disk.crash(Rng(1))
        assert bitmap.unpack(await part.open(), CHUNKS) == frozenset(range(CHUNKS)) - {5}
        await part.write(5 * CHUNK_BYTES, DATA[5 * CHUNK_BYTES :][:CHUNK_BYTES])
        await part.finish()
        assert disk.peek(path_of(REF.sha256)) == DATA

    asyncio.run(scenario())


def test_a_torn_row_leaves_the_one_before_it() -> None:
    """Rows are written in turns, so the newest good one is never overwritten."""

    async def scenario() -> None:
        disk = MemoryDisk()
        part = PartFile(disk, REF)
        await part.open()
        rows = [bitmap.pack(range(GROUP), CHUNKS), bitmap.pack(range(2 * GROUP), CHUNKS)]
        for row in rows:
            await part.sync(row)
        record = f"objects/.{REF.sha256}.have"
        assert await PartFile(disk, REF).open() == rows[1]
        await disk.pwrite(record, await disk.size(record) - 1, b"?")
        torn = PartFile(disk, REF)
        assert await torn.open() == rows[0]
        await torn.sync(rows[1])
        assert await PartFile(disk, REF).open() == rows[1]

    asyncio.run(scenario())
