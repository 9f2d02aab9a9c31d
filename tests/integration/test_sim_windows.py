"""Windows in virtual time, with the real hub and the real agent: nobody downloads or installs outside them."""

from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import select

from cloud.core.rollout import Plan, Wave
from cloud.core.rollout.windows import Window
from cloud.service.rollouts import NewRollout
from cloud.tables import members, slots
from edge_agent.service.under_way import MISSED
from simulator.core.network import Quality
from simulator.device import Device
from simulator.fleet import Fleet, Size
from simulator.scenario import MODEL, SLOT
from simulator.version import random_files
from simulator.world import World
from wire.messages import Outcome
from wire.ports import SECOND

MINUTE = 60 * SECOND
ALL = (Wave(percent=100),)


def live(scene: Callable[[Fleet], Coroutine[Any, Any, None]]) -> None:
    """A fleet of two that runs version 1, at a full minute."""
    world = World(5)
    fleet = Fleet(world)

    async def whole() -> None:
        await fleet.start(Size(2, Quality()))
        await world.clock.sleep(30 * SECOND)
        await order(fleet, Plan(ALL))
        await world.clock.sleep(60 * SECOND)
        assert running(fleet) == [1, 1]
        await world.clock.sleep(MINUTE - world.clock.now_ns() % MINUTE)
        await scene(fleet)

    world.loop.run(whole())


async def order(fleet: Fleet, plan: Plan) -> None:
    """Publish the next version and roll it out."""
    content = fleet.world.rng.child(f"model of {fleet.world.clock.now_ns()}")
    release = await fleet.hub.publish_version(MODEL, random_files(content, 2_000))
    await fleet.hub.roll_out(NewRollout(f"r{release.version}", MODEL, release.version, SLOT, {}, None, plan))


def running(fleet: Fleet) -> list[int | None]:
    """The version that each device has committed."""
    return [_version(device) for device in fleet.devices]


def _version(device: Device) -> int | None:
    current = device.record().slot(SLOT).current
    return current.installed.version if current else None


def phases(fleet: Fleet) -> set[str]:
    """What the hub has been told."""
    return set(fleet.hub.look(lambda conn: conn.scalars(select(slots.c.phase)).all()))


def outcomes(fleet: Fleet, rollout: str) -> set[str | None]:
    """How executions ended."""
    query = select(members.c.outcome).where(members.c.rollout == rollout)
    return set(fleet.hub.look(lambda conn: conn.scalars(query).all()))


def window_in(fleet: Fleet, minutes: int, zone: str = "UTC") -> Window:
    """Two minutes that begin so many minutes from now, as the clocks of a zone say it."""
    opens = datetime.fromtimestamp(fleet.world.clock.now_ns() // SECOND + 60 * minutes, ZoneInfo(zone))
    return Window(f"{opens.minute} {opens.hour} * * *", zone, 120.0)


def test_what_was_downloaded_is_installed_in_its_window() -> None:
    """It is reported to wait, over a restart; committed soon after the opening, which is said in the time of Tokyo."""

    async def scene(fleet: Fleet) -> None:
        clock = fleet.world.clock
        await order(fleet, Plan(ALL, install_window=window_in(fleet, 3, "Asia/Tokyo")))
        await clock.sleep(30 * SECOND)
        assert phases(fleet) == {"waiting_to_install"}
        fleet.devices[0].power_cut(SECOND)
        await clock.sleep(145 * SECOND)
        assert (phases(fleet), running(fleet)) == ({"waiting_to_install"}, [1, 1]), "five seconds before the opening"
        await clock.sleep(60 * SECOND)
        assert running(fleet) == [2, 2]
        assert outcomes(fleet, "r2") == {"succeeded"}
        assert all(device.record().slot(SLOT).figures.downloaded_bytes > 2_000 for device in fleet.devices)

    live(scene)


def test_a_device_that_was_away_for_its_window_does_not_begin_afterwards() -> None:
    """It says so, and runs what it ran; the other one was there."""

    async def scene(fleet: Fleet) -> None:
        clock = fleet.world.clock
        away = fleet.devices[0]
        away.power_cut(200 * SECOND)
        await order(fleet, Plan(ALL, (), window=window_in(fleet, 0)))
        await clock.sleep(240 * SECOND)
        assert running(fleet) == [1, 2]
        state = away.record().slot(SLOT)
        assert (state.outcome, state.reason) == (Outcome.TIMED_OUT, MISSED)

    live(scene)


def test_a_wall_clock_that_is_wrong_neither_opens_a_window_nor_misses_one() -> None:
    """Nobody has told the time when a device starts anew: one clock stands within the window, the other far beyond."""

    async def scene(fleet: Fleet) -> None:
        clock = fleet.world.clock
        await order(fleet, Plan(ALL, install_window=window_in(fleet, 5)))
        await clock.sleep(30 * SECOND)
        for device, skew_ns in zip(fleet.devices, (5 * MINUTE, 1500 * MINUTE), strict=True):
            device.clock.skew_ns = skew_ns
            device.power_cut(SECOND)
        await clock.sleep(260 * SECOND)
        assert (phases(fleet), running(fleet)) == ({"waiting_to_install"}, [1, 1]), "ten seconds before the opening"
        await clock.sleep(60 * SECOND)
        assert running(fleet) == [2, 2]

    live(scene)
