"""What the hub sends of objects: within the broker's memory, bounded in flight, and to each device at its own rate."""

import asyncio
import random
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from cloud.core.rollout import Wave
from cloud.ports import ObjectMissingError
from cloud.service import blobs as blobs_service
from cloud.service.blobs import IN_FLIGHT, Blobs
from cloud.service.chunk_answers import DEVICE_RATE, ChunkAnswers
from cloud.service.needs import Needed, within
from cloud.tables import objects, retained
from simulator.core.clock import VirtualClock
from simulator.core.loop import VirtualLoop
from simulator.core.rng import Rng
from simulator.fakes.store import MemoryObjects, MemoryStore
from tests.scenes.hub_steps import fleet, hub, roll_out
from tests.worlds.hub_fakes import FakeLink
from tests.worlds.hub_world import ROOT, World
from wire.asks import AskChunks
from wire.ports import SECOND
from wire.release import object_ref
from wire.transfer.chunks import CHUNK_BYTES, count, frames


def test_the_least_recently_used_objects_give_way() -> None:
    """Small ones still fit behind a large one that does not."""
    needed = [Needed("new", 40, 3), Needed("middle", 50, 2), Needed("old", 10, 1)]
    assert [one.sha256 for one in within(needed, 60)] == ["new", "old"]
    assert [one.sha256 for one in within(needed, 100)] == ["new", "middle", "old"]


class CountingLink(FakeLink):
    """Says how many publishes were under way at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way = self.most = 0

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish, slowly."""
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        await super().publish(topic, payload, retain=retain)
        self.under_way -= 1


def large(world: World, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Have the database say that `content` is needed, and nothing else."""
    ref = object_ref(content)
    monkeypatch.setattr(blobs_service, "needed_objects", lambda conn: (Needed(ref.sha256, ref.bytes, 7),))


def test_a_large_object_is_published_whole_and_bounded_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every chunk once, a few at a time, never the whole object in memory; noted with its use."""

    async def scenario(world: World) -> None:
        content = random.Random(1).randbytes(50 * CHUNK_BYTES + 1)
        sha256 = await world.objects.put(content)
        row = {"sha256": sha256, "bytes": len(content), "created_ns": 1}
        await world.store.write(lambda conn: conn.execute(insert(objects).values(row)))
        large(world, monkeypatch, content)
        link = CountingLink()
        blobs = Blobs(world.store, world.objects, link, ROOT)
        await blobs.sync()
        await blobs.sync()
        assert [link.retained[ROOT.blob(sha256, index)] for index in range(51)] == list(frames(content))
        assert (len(link.sent), link.most) == (51, IN_FLIGHT)
        noted = await world.store.read(lambda conn: conn.execute(select(retained)).one())
        assert (noted.sha256, noted.bytes, noted.used_ns) == (sha256, len(content), 7)

    hub(tmp_path, scenario)


def test_a_damaged_object_keeps_no_other_from_being_published(tmp_path: Path) -> None:
    """It is said, and the rest is there."""

    async def scenario(world: World) -> None:
        await fleet(world, 1)
        await roll_out(world, waves=(Wave(percent=100),))
        await world.tick()
        model = (await world.desired("p00")).slots[0].sha256
        (world.directory / "objects" / model[:2] / model).write_bytes(b"rotten")
        with pytest.raises(ObjectMissingError, match="damaged"):
            await Blobs(world.store, world.objects, world.link, ROOT).sync()
        assert ROOT.blob(model, 0) not in world.link.retained
        assert len(world.link.retained) == 2

    hub(tmp_path, scenario)


def test_devices_take_turns_each_at_its_own_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that asks for everything at once waits for itself; another one's few chunks come in between."""
    content = random.Random(2).randbytes(150 * CHUNK_BYTES)
    ref = object_ref(content)
    monkeypatch.setattr(
        "cloud.service.chunk_answers.objects_of", lambda conn, device: {ref.sha256: ref.bytes} if device else {}
    )
    loop = VirtualLoop(Rng(1))
    clock = VirtualClock(loop)

    async def scenario() -> None:
        store, kept, link = MemoryStore(), MemoryObjects(), FakeLink()
        await kept.put(content)
        answers = ChunkAnswers(store, kept, link, clock, ROOT)
        running = asyncio.create_task(answers.run())
        begun_ns = clock.monotonic_ns()
        greedy = AskChunks(sha256=ref.sha256, indices=tuple(range(80, 144)))
        assert await answers.answer("greedy", greedy) is None
        assert await answers.answer("modest", AskChunks(sha256=ref.sha256, indices=(1, 1, 2, 149, 150))) is None
        while len(link.sent) < 64 + 3:
            await clock.sleep(SECOND // 100)
        seconds = (clock.monotonic_ns() - begun_ns) / SECOND
        assert seconds >= 64 * CHUNK_BYTES / DEVICE_RATE - 1.1
        topics = [topic for topic, _ in link.sent]
        assert topics.index(ROOT.dn_chunk("modest", ref.sha256, 149)) < 20
        assert len(topics) == len(set(topics))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    loop.run(scenario())
    assert count(ref.bytes) == 150
