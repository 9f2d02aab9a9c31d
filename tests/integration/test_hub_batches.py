"""What the hub takes together: runs of one channel, statuses of one device in their order, telemetry that waits."""

import asyncio
from pathlib import Path

from sqlalchemy import select

from cloud.service.history import ABSENT
from cloud.service.inbox import GATHER_NS, LINGER_NS, Inbox
from cloud.tables import device_events, devices
from tests.scenes.hub_steps import hub
from tests.worlds.hub_world import ROOT, World, inbound
from wire.codec import encode
from wire.messages import Status, Telemetry


def status(*, online: bool, boot: int, session: str = "s") -> bytes:
    """A status as the device sends it; offline with boot 0 as the broker does for it."""
    return encode(Status(online=online, boot=boot, session=session if online else ""))


def telemetry(seq: int) -> bytes:
    """A message of a device at rest."""
    return encode(Telemetry(seq=seq))


async def told(world: World, *messages: tuple[str, str, bytes]) -> None:
    """One batch: (device, channel, payload)."""
    await world.receive(*((ROOT.up(device, channel), payload) for device, channel, payload in messages))


async def online(world: World, device: str) -> bool:
    """What the hub believes."""
    query = select(devices.c.online).where(devices.c.name == device)
    return bool(await world.store.read(lambda conn: conn.execute(query).scalar_one()))


class TestOrder:
    """A batch is taken by channels, and every device in its own order."""

    def test_a_will_behind_telemetry_of_another_device_counts(self, tmp_path: Path) -> None:
        """Whatever others say in between: the newest that one device says of itself decides."""

        async def scenario(world: World) -> None:
            for name in ("p01", "p02"):
                await world.enrol(name)
            await told(
                world,
                ("p01", "status", status(online=True, boot=1)),
                ("p02", "telemetry", telemetry(1)),
                ("p01", "telemetry", telemetry(1)),
                ("p02", "status", status(online=True, boot=1)),
                ("p01", "status", status(online=False, boot=0)),
                ("p02", "status", status(online=False, boot=0)),
                ("p02", "telemetry", telemetry(2)),
            )
            assert (await online(world, "p01"), await online(world, "p02")) == (False, True)

        hub(tmp_path, scenario)

    def test_an_absence_is_noted_once(self, tmp_path: Path) -> None:
        """However often its device comes and goes in the batch that tells of its return."""

        async def scenario(world: World) -> None:
            await world.enrol("p01")
            await told(world, ("p01", "status", status(online=True, boot=1)))
            await told(world, ("p01", "status", status(online=False, boot=0)))
            world.clock.ns += 3600 * 10**9
            back, gone = status(online=True, boot=1), status(online=False, boot=0)
            await told(world, *(("p01", "status", one) for one in (back, gone, back, gone, back)))
            query = select(device_events.c.event).where(device_events.c.device == "p01")
            assert await world.store.read(lambda conn: conn.scalars(query).all()) == [ABSENT]

        hub(tmp_path, scenario)

    def test_one_that_cannot_be_read_is_noted_and_the_others_count(self, tmp_path: Path) -> None:
        """In one batch, of one device."""

        async def scenario(world: World) -> None:
            await world.enrol("p01")
            await told(world, ("p01", "status", b"{"), ("p01", "status", status(online=True, boot=7)))
            row = await world.store.read(lambda conn: conn.execute(select(devices)).one())
            assert (row.online, row.boot, row.refusal_count) == (True, 7, 1)
            assert row.last_refusal.startswith("status:")

        hub(tmp_path, scenario)


def test_what_comes_waits_for_more_of_it(tmp_path: Path) -> None:
    """One transaction for a fleet at rest; whatever else comes ends the wait of telemetry soon."""

    async def scenario(world: World) -> None:
        for name in ("p01", "p02"):
            await world.enrol(name)
        inbox, acked = Inbox(world.store, world.outbox, world.clock, world.door), list[str]()
        running = asyncio.create_task(inbox.run())
        for name in ("p01", "p02"):
            inbox.take(inbound(ROOT.up(name, "telemetry"), telemetry(1), acked))
        for _ in range(20):
            await asyncio.sleep(0)
        assert acked == []
        assert len(world.clock.alarms) == 1
        inbox.take(inbound(ROOT.up("p01", "status"), status(online=True, boot=1), acked))
        assert len(world.clock.alarms) == 2  # an earlier one
        world.clock.alarms[-1]()
        async with asyncio.timeout(5):
            while len(acked) < 3:
                await asyncio.sleep(0.002)
        inbox.take(inbound(ROOT.up("p02", "telemetry"), telemetry(2), acked))
        world.clock.alarms[-1]()
        async with asyncio.timeout(5):
            while len(acked) < 4:
                await asyncio.sleep(0.002)
        running.cancel()

    assert LINGER_NS > GATHER_NS > 0
    hub(tmp_path, scenario)


def test_an_alarm_that_goes_off_while_messages_are_taken_is_not_the_last_one(tmp_path: Path) -> None:
    """What it was for is taken already; what comes next gets an alarm of its own."""

    async def scenario(world: World) -> None:
        inbox, acked = Inbox(world.store, world.outbox, world.clock, world.door), list[str]()
        running = asyncio.create_task(inbox.run())
        for name in ("p01", "p02"):
            await world.enrol(name)
        for name in ("p01", "p02"):  # the second one comes while the first one is taken
            inbox.take(inbound(ROOT.up(name, "status"), status(online=True, boot=1), acked))
            world.clock.alarms[-1]()
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            while len(acked) < 2:
                await asyncio.sleep(0.002)
        set_before = len(world.clock.alarms)
        inbox.take(inbound(ROOT.up("p01", "telemetry"), telemetry(1), acked))
        assert len(world.clock.alarms) == set_before + 1
        running.cancel()

    hub(tmp_path, scenario)
