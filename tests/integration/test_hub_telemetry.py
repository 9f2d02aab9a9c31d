"""Telemetry on real SQLite: every message lands once, counters follow the newest, old points go."""

import random
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from cloud.service import enrolment
from cloud.service.enrolment import NewClaim
from cloud.service.retention import roll_up
from cloud.service.telemetry import MAX_AHEAD
from cloud.tables import devices, telemetry_points
from tests.scenes.hub_steps import counters, fleet, hub, refusal, telemetry
from tests.worlds.hub_world import ROOT, World
from wire.codec import decode, encode
from wire.messages import Receipt, Telemetry
from wire.ports import SECOND

UP = ROOT.up("p00", "telemetry")


def message(seq: int, after: int = 0) -> tuple[str, bytes]:
    """Counters of `seq` predictions, sent behind the message `after`."""
    told = msgspec.structs.replace(decode(telemetry(seq, seq, seq), Telemetry), after=after)
    return UP, encode(told)


async def points(world: World, device: str = "p00") -> list[int]:
    """Numbers of the points that the hub holds."""
    query = select(telemetry_points.c.seq).where(telemetry_points.c.device == device).order_by(telemetry_points.c.seq)
    return list(await world.store.read(lambda conn: conn.scalars(query).all()))


async def mark(world: World) -> int:
    """Up to where the hub has everything."""
    query = select(devices.c.telemetry_seq).where(devices.c.name == "p00")
    return int(await world.store.read(lambda conn: conn.scalar(query)) or 0)


async def newest(world: World) -> int:
    """Number of the message that says how things stand."""
    query = select(devices.c.telemetry).where(devices.c.name == "p00")
    return decode(await world.store.read(lambda conn: conn.execute(query).scalar_one()), Telemetry).seq


class TestTelemetry:
    """Taken by the batch."""

    def test_a_batch_is_taken_whole_and_receipted_once(self, tmp_path: Path) -> None:
        """One receipt per device, up to the newest."""

        async def scenario(world: World) -> None:
            await fleet(world, 2)
            other = (ROOT.up("p01", "telemetry"), telemetry(9, 4, 2))
            effects = await world.receive(message(1), message(2, 1), other, message(3, 2))
            receipts = {one.topic: decode(one.payload, Receipt) for one in effects.publishes}
            assert receipts == {
                ROOT.dn("p00", "receipt"): Receipt(channel="telemetry", seq=3),
                ROOT.dn("p01", "receipt"): Receipt(channel="telemetry", seq=9),
            }
            assert await points(world) == [1, 2, 3]
            assert (await counters(world, "p00")).predictions == 3
            assert (await counters(world, "p01")).correct == 2

        hub(tmp_path, scenario)

    def test_a_message_whose_predecessor_is_missing_waits_for_it(self, tmp_path: Path) -> None:
        """A receipt for it would cover the missing one, too."""

        async def scenario(world: World) -> None:
            await fleet(world, 1)
            effects = await world.receive(message(1), message(3, 2))
            assert decode(effects.publishes[0].payload, Receipt).seq == 1
            assert (await world.receive(message(3, 2))).publishes == ()
            await world.receive(message(2, 1), message(3, 2))
            assert await points(world) == [1, 2, 3]

        hub(tmp_path, scenario)

    def test_what_came_early_is_taken_with_its_predecessor_and_not_sent_again(self, tmp_path: Path) -> None:
        """One receipt for all of it; its figures count then, and not before; the next gap is another one."""

        async def scenario(world: World) -> None:
            await fleet(world, 1)
            await world.receive(message(1), message(4, 3))
            assert (await world.receive(message(3, 2), message(7, 6), message(7, 6))).publishes == ()
            assert (await mark(world), await newest(world)) == (1, 1)
            effects = await world.receive(message(2, 1))
            assert [decode(one.payload, Receipt).seq for one in effects.publishes] == [4]
            assert (await mark(world), await newest(world)) == (4, 4)
            assert (await counters(world, "p00")).predictions == 4
            await world.receive(message(7), message(6, 5))  # 5 and 6 were dropped, and this was said of 7 before
            assert (await mark(world), await points(world)) == (7, [1, 2, 3, 4, 7])
            await world.receive(message(8, 7))
            assert (await mark(world), await newest(world)) == (8, 8)

        hub(tmp_path, scenario)

    def test_no_more_is_kept_above_a_gap_than_there_is_room_for(self, tmp_path: Path) -> None:
        """What more there is comes again."""

        async def scenario(world: World) -> None:
            await fleet(world, 1)
            await world.receive(message(1), *(message(seq, seq - 1) for seq in range(3, 3 + 2 * MAX_AHEAD)))
            assert len(await points(world)) == 1 + MAX_AHEAD
            await world.receive(message(2, 1))
            assert await mark(world) == 2 + MAX_AHEAD

        hub(tmp_path, scenario)

    def test_what_the_device_itself_dropped_is_not_waited_for(self, tmp_path: Path) -> None:
        """The oldest that it still has says that there is none before it."""

        async def scenario(world: World) -> None:
            await fleet(world, 1)
            await world.receive(message(1), message(7), message(8, 7))
            assert await points(world) == [1, 7, 8]

        hub(tmp_path, scenario)

    def test_one_bad_message_costs_the_batch_nothing(self, tmp_path: Path) -> None:
        """Its device learns nothing, the operator learns why."""

        async def scenario(world: World) -> None:
            await fleet(world, 1)
            await world.receive(message(1), (UP, b"{"), message(2, 1))
            assert await points(world) == [1, 2]
            assert "telemetry: " in await refusal(world, "p00")

        hub(tmp_path, scenario)

    def test_a_refused_message_holds_up_nothing(self, tmp_path: Path) -> None:
        """It would be refused again: the device may forget it. One whose number cannot be read has no receipt."""

        async def scenario(world: World) -> None:
            await fleet(world, 1)
            odd = encode({"seq": 2, "after": 1, "colour": "red"})
            effects = await world.receive(message(1), (UP, odd), message(3, 2))
            assert decode(effects.publishes[0].payload, Receipt).seq == 3
            assert await points(world) == [1, 3]
            assert "colour" in await refusal(world, "p00")
            assert (await world.receive((UP, odd.replace(b'"seq":2,"after":1', b'"seq":9,"after":5')))).publishes == ()
            for payload in (b"{", b"[]", b'{"seq":-1}', b'{"seq":%d}' % 2**63, b"[" * 50_000):
                assert (await world.receive((UP, payload))).publishes == ()
            assert await mark(world) == 3

        hub(tmp_path, scenario)

    def test_new_hardware_under_an_old_name_counts_from_the_start(self, tmp_path: Path) -> None:
        """And what the hardware before it measured under the same numbers stays, until all of it is rolled up."""

        async def scenario(world: World) -> None:
            await fleet(world, 1)
            await world.receive(message(1), message(2, 1), message(4, 3))
            world.clock.ns += SECOND
            new = NewClaim("p00", None, None, "token-of-the-new-hardware", replaces=True)
            await world.store.write(lambda conn: enrolment.claim(conn, new, "test", world.clock.now_ns()))
            assert (await world.request("p00", new.token, "d" * 64)).ok
            await world.receive(message(1))
            assert await mark(world) == 1
            assert await points(world) == [1, 1, 2, 4]
            await world.receive(message(3, 1))
            assert await mark(world) == 3, "4 was the old one's"
            assert await world.store.write(lambda conn: roll_up(conn, world.clock.now_ns() + 1)) == 5
            assert await points(world) == []

        hub(tmp_path, scenario)


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_lost_repeated_or_reordered_what_is_receipted_is_there_once(
    tmp_path_factory: pytest.TempPathFactory, seed: int, shuffled: bool
) -> None:
    """The mark covers only messages that were taken, unless the device had none before them."""
    rng = random.Random(seed)

    async def scenario(world: World) -> None:
        await world.enrol("p00")
        oldest = 1
        for _ in range(3):
            sequence = [(seq, seq - 1 if seq > oldest else 0) for seq in range(oldest, 13)]
            noisy = [one for one in sequence if rng.random() > 0.2] + rng.choices(sequence, k=4)
            if shuffled:
                rng.shuffle(noisy)
            for seq, after in noisy:
                await world.receive(message(seq, after))
            taken, reached = await points(world), await mark(world)
            assert taken[:reached] == list(range(1, reached + 1))
            assert reached == 0 or await newest(world) == reached
            assert reached + 1 not in taken, "it would be next"
            oldest = min(12, await mark(world) + 1)

    hub(tmp_path_factory.mktemp("hub"), scenario)
