"""The agent's telemetry in virtual time: kept while nobody takes it, bounded, in order, counted, gentle to flash."""

import pytest

from edge_agent.errors import DiskError
from edge_agent.service.delivery import WINDOW
from edge_agent.service.outbox import SPOOL_NS, Outbox
from edge_agent.service.tasks import Tasks
from simulator.core.rng import Rng
from tests.scenes.outbox_scene import CountingDisk, Scene, play
from tests.worlds.agent_world import DEVICE, TOPICS
from wire.codec import encode
from wire.messages import Receipt
from wire.ports import SECOND

HOUR_S = 3600


def test_with_a_good_link_telemetry_never_touches_the_flash() -> None:
    """An hour, a message every five seconds, each receipted: no write at all."""

    async def scenario(scene: Scene) -> None:
        async with scene.device() as unit:
            await scene.measure(unit, HOUR_S)
            assert len(scene.told) >= 720
            assert (scene.disk.writes, scene.disk.syncs) == (0, 0)

    play(scenario)


def test_offline_it_is_written_in_batches() -> None:
    """An hour without a link: one write and one sync each SPOOL_NS, not one per message."""

    async def scenario(scene: Scene) -> None:
        async with scene.device() as unit:
            scene.link.down()
            await scene.measure(unit, HOUR_S)
            most = HOUR_S * SECOND // SPOOL_NS + 1
            assert 100 < scene.disk.writes <= most
            assert scene.disk.syncs <= most

    play(scenario)


def test_what_was_measured_offline_is_sent_in_order_after_a_restart() -> None:
    """Each message with the time it was measured at; the newer ones of the next start come after them."""

    async def scenario(scene: Scene) -> None:
        async with scene.device() as unit:
            scene.link.down()
            await scene.measure(unit, 300)
        scene.air.published.clear()
        async with scene.device() as unit:
            await scene.measure(unit, 20)
        first, later = (
            [one for one in scene.told if one.seq >> 32 == 1],
            [one for one in scene.told if one.seq >> 32 == 2],
        )
        assert len(first) >= 60
        assert later
        assert scene.told == first + later
        times = [one.at_ns for one in scene.told]
        assert times == sorted(set(times))

    play(scenario)


def test_a_backlog_goes_out_behind_receipts_not_as_a_storm() -> None:
    """WINDOW messages, and no more until there is a receipt; each but the first names the one before it."""

    async def scenario(scene: Scene) -> None:
        scene.air.receipts = False
        async with scene.device() as unit:
            scene.link.down()
            await scene.measure(unit, 600)
            scene.link.back()
            await scene.clock.sleep(SECOND)
            sent = scene.told
            assert len(sent) == WINDOW
            assert [one.after for one in sent] == [0, *(one.seq for one in sent[:-1])]
            scene.receipt(sent[4].seq)
            await scene.clock.sleep(SECOND)
            more = scene.told[WINDOW:]
            assert len(more) == 5
            assert more[0].after == sent[-1].seq

    play(scenario)


def test_without_a_receipt_it_is_sent_again_from_the_oldest() -> None:
    """Ever more seldom."""

    async def scenario(scene: Scene) -> None:
        scene.air.receipts = False
        async with scene.device() as unit:
            await scene.measure(unit, 10)
            await scene.clock.sleep(50 * SECOND)
            oldest = scene.told[0]
            again = [one for one in scene.told if one.seq == oldest.seq]
            assert 3 <= len(again) <= 6
            assert {one.after for one in again} == {0}

    play(scenario)


def test_a_full_outbox_drops_the_oldest_and_says_how_many() -> None:
    """4 KB: what is there in the end is the newest; what is missing is what was counted, also over a restart."""

    async def scenario(scene: Scene) -> None:
        async with scene.device() as unit:
            scene.link.down()
            await scene.measure(unit, 600)
            assert scene.disk.bytes_used() <= 4096
        scene.air.published.clear()
        async with scene.device() as unit:
            await scene.measure(unit, 30)
        old = [one for one in scene.told if one.seq >> 32 == 1]
        newest = scene.told[-1]
        numbers = [one.seq & 0xFFFFFFFF for one in old]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        assert numbers[0] > 20
        assert newest.seq >> 32 == 2
        assert newest.dropped == numbers[0] - 1
        assert scene.disk.bytes_used() <= 4096

    play(scenario, outbox_bytes=4096)


def test_the_count_of_what_was_dropped_never_starts_again() -> None:
    """Everything is receipted, the device restarts twice: it still says how many there were."""

    async def scenario(scene: Scene) -> None:
        async with scene.device() as unit:
            scene.link.down()
            await scene.measure(unit, 600)
        for _ in range(2):
            async with scene.device() as unit:
                await scene.measure(unit, 120)
        assert scene.told[-1].dropped > 20
        assert scene.told[-1].dropped == next(one for one in scene.told if one.seq >> 32 == 2).dropped

    play(scenario, outbox_bytes=4096)


def test_a_disk_that_refuses_costs_telemetry_and_nothing_else() -> None:
    """Offline, memory holds the newest and counts the rest; online, all is told although nothing can be written."""

    async def scenario(scene: Scene) -> None:
        async with scene.device() as unit:
            scene.disk.refuses = ("outbox/",)
            await scene.measure(unit, 600)
            assert len(scene.told) >= 120
            assert scene.told[-1].dropped == 0
            scene.link.down()
            await scene.measure(unit, 2 * HOUR_S)
            scene.link.back()
            scene.disk.refuses = ()
            await scene.measure(unit, 60)
            assert scene.told[-1].dropped > 0
            assert scene.disk.writes == 0

    play(scenario)


def test_nothing_is_numbered_before_the_boot_number_is_durable() -> None:
    """Else the next start would give the same numbers to other messages. Once the record is written, all is told."""

    async def scenario(scene: Scene) -> None:
        async with scene.device():
            await scene.clock.sleep(SECOND)
        scene.disk.refuses = ("state",)
        async with scene.device() as unit:
            await scene.measure(unit, 60)
            assert [one for one in scene.told if one.seq >> 32 == 2] == []
            scene.disk.refuses = ()
            await scene.measure(unit, 60)
            assert scene.told[-1].seq >> 32 == 2

    play(scenario)


def test_a_report_goes_on_above_what_a_lost_start_used() -> None:
    """The hub's receipt says that it has more than was sent: the number is raised, and the report sent again."""

    async def scenario(scene: Scene) -> None:
        scene.air.receipts = False
        async with scene.device():
            await scene.clock.sleep(SECOND)
            mark = (1 << 32) + 40
            scene.air.send(TOPICS.dn(DEVICE, "receipt"), encode(Receipt(channel="reported", seq=mark)))
            await scene.clock.sleep(SECOND)
            assert mark < scene.air.reports[-1].seq < mark + 10
            scene.air.send(TOPICS.dn(DEVICE, "receipt"), encode(Receipt(channel="reported", seq=2**63 - 1)))
            await scene.clock.sleep(SECOND)
            assert scene.air.reports[-1].seq < mark + 10, "nobody has sent so much"

    play(scenario)


def test_telemetry_of_a_device_with_an_old_record_goes_on_above_the_hubs_mark() -> None:
    """Its boot number fell back: what the hub has is told by the first receipt."""

    async def scenario(scene: Scene) -> None:
        async with scene.device() as unit:
            scene.receipt((40 << 32) + 7)
            scene.receipt(2**63 - 1)
            await scene.measure(unit, 20)
            assert scene.told[-1].seq >> 32 == 40
            assert scene.told[-1].seq > (40 << 32) + 7

    play(scenario)


def test_what_is_in_memory_is_sent_without_waiting_for_the_disk() -> None:
    """Nothing else is; behind what the disk has to be read for it keeps its place."""

    async def scenario(scene: Scene) -> None:
        crashes: list[BaseException] = []
        outbox = Outbox(scene.disk, scene.clock, Tasks(crashes.append))
        for seq in (1, 2, 3):
            outbox.put(seq, b"x")
        assert [frame.seq for frame in outbox.at_hand(1, 16) or ()] == [2, 3]
        await outbox.spool()
        outbox.put(4, b"x")
        assert outbox.at_hand(0, 16) is None
        assert [frame.seq for frame in await outbox.next(0, 16)] == [1, 2, 3, 4]
        assert [frame.seq for frame in outbox.at_hand(3, 16) or ()] == [4]
        outbox.stop()

    play(scenario)


class RottenDisk(CountingDisk):
    """Reading the oldest segment fails once it rots."""

    rots = False

    async def read(self, path: str) -> bytes:
        """The file, or an error."""
        if self.rots and path == min(name for name in self.paths if name.startswith("outbox/")):
            raise DiskError(f"{path}: Input/output error")
        return await super().read(path)


@pytest.mark.parametrize("restart", [False, True])
def test_a_segment_that_rots_holds_up_nothing(restart: bool) -> None:
    """Its messages count as dropped; those after it are sent."""

    async def scenario(scene: Scene) -> None:
        disk = RottenDisk()
        scene.disk = disk
        async with scene.device() as unit:
            scene.link.down()
            await scene.measure(unit, 300)
            disk.rots = True
            if not restart:
                scene.link.back()
                await scene.measure(unit, 60)
                disk.rots = False
                await scene.measure(unit, 60)
                assert scene.told[-1].dropped > 0
        if restart:
            async with scene.device() as unit:
                await scene.measure(unit, 60)
        assert scene.told[-1].seq & 0xFFFFFFFF > 5

    play(scenario, outbox_bytes=16 * 1024)


def test_what_another_agent_wrote_is_sent_as_it_is() -> None:
    """Its fields are none of this one's: it waits until nothing is before it, and holds up nothing for ever."""

    async def scenario(scene: Scene) -> None:
        foreign = b'{"schema":1,"seq":4294967299,"colour":"red"}'
        scene.air.receipts = False
        async with scene.device() as unit:
            outbox: Outbox = unit.agent._telemetry._outbox
            scene.link.down()
            await scene.measure(unit, 10)
            outbox.put((1 << 32) + 3, foreign)
            unit.agent._telemetry._seq += 1
            await scene.measure(unit, 10)
            scene.link.back()
            await scene.clock.sleep(SECOND)
            assert [one.seq for one in scene.told] == [(1 << 32) + 1, (1 << 32) + 2]
            scene.receipt((1 << 32) + 2)
            await scene.clock.sleep(SECOND)
            sent = [payload for _, payload in scene.air.published]
            assert b'"seq":4294967300,"after":4294967299' in sent[sent.index(foreign) + 1]

    play(scenario)


def test_an_outbox_takes_any_bytes_for_a_segment() -> None:
    """What lies in its folder is read, or removed."""

    async def scenario(scene: Scene) -> None:
        for name, data in (("x", b""), ("00000000000000000001", b"\xff" * 100), ("zz", bytes(5000))):
            await scene.disk.create(f"outbox/{name}", len(data))
            if data:
                await scene.disk.pwrite(f"outbox/{name}", 0, data)
        async with scene.device() as unit:
            await scene.measure(unit, 10)
            assert scene.told
        assert await scene.disk.list("outbox") == ()

    play(scenario)


def test_the_outbox_takes_the_settings_share_of_the_disk() -> None:
    """Whatever the sizes of the messages are."""

    async def scenario(scene: Scene) -> None:
        crashes: list[BaseException] = []
        outbox, rng = Outbox(scene.disk, scene.clock, Tasks(crashes.append), scene.outbox_bytes), Rng(3)
        for seq in range(1, 400):
            outbox.put(seq, bytes(rng.below(900)))
            if rng.chance(0.3):
                await outbox.spool()
                assert scene.disk.bytes_used() <= scene.outbox_bytes
        assert outbox.dropped > 0
        outbox.stop()

    play(scenario, outbox_bytes=32 * 1024)
