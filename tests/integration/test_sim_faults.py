"""Faults of disks, clocks and the hub's side, on a small fleet that has its first version: harm is done, and undone."""

from collections.abc import Callable, Coroutine
from typing import Any

from cloud.core.rollout import Plan, Wave
from cloud.service.rollouts import NewRollout
from simulator.core.network import Quality
from simulator.faults.clocks import ClockJump
from simulator.faults.fault import Among
from simulator.faults.forgery import StaleOrders
from simulator.faults.hub_side import BadHubNetwork, HubCutOff
from simulator.faults.inject import Injector
from simulator.faults.kinds import AnyFault, PowerCut
from simulator.faults.storage import FailingDisk, FullDisk, SlowDisk
from simulator.fleet import Fleet, Size
from simulator.fuzz.play import MODEL, SLOT
from simulator.version import random_files
from simulator.world import World
from wire.messages import Outcome
from wire.ports import SECOND

DAY_NS = 24 * 3600 * SECOND


def live(scene: Callable[[Fleet, Injector], Coroutine[Any, Any, None]]) -> Fleet:
    """A fleet of two that runs version 1."""
    fleet = Fleet(World(11))

    async def whole() -> None:
        await fleet.start(Size(2, Quality(), boot_within_ns=SECOND))
        await roll_out(fleet, 1)
        await scene(fleet, Injector(fleet))

    fleet.world.loop.run(whole())
    return fleet


async def roll_out(fleet: Fleet, version: int, *faults: AnyFault, step_s: float = 20.0) -> list[Outcome | None]:
    """The next version for everybody, under faults, with so long for each step; how it ended on each device."""
    await fleet.world.clock.sleep(10 * SECOND)
    injector = Injector(fleet)
    for fault in faults:
        injector.plan(fault)
    release = await fleet.hub.publish_version(MODEL, random_files(fleet.world.rng.child(str(version)), 5_000))
    assert release.version == version
    plan = Plan(waves=(Wave(percent=100),), total_timeout_s=3 * step_s, step_timeout_s=step_s)
    await fleet.hub.roll_out(NewRollout(f"r{version}", MODEL, version, SLOT, {}, None, plan))
    await fleet.world.clock.sleep(40 * SECOND)
    return [device.record().slot(SLOT).outcome for device in fleet.devices]


def versions(fleet: Fleet) -> list[int]:
    """What devices run."""
    found = [device.current(SLOT) for device in fleet.devices]
    return [one.installed.version for one in found if one is not None]


def test_a_full_disk_keeps_the_model_and_takes_the_next_one_once_there_is_room() -> None:
    """Nothing can be written, so nothing changes; later the device goes on by itself."""

    async def scene(fleet: Fleet, injector: Injector) -> None:
        await roll_out(fleet, 2, FullDisk(lasts="30s"))
        fleet.check()
        await fleet.world.clock.sleep(60 * SECOND)
        assert set(versions(fleet)) <= {1, 2}
        await roll_out(fleet, 3)
        assert versions(fleet) == [3, 3]

    assert live(scene).world.fired["full_disk"] > 0


def test_a_disk_that_fails_costs_no_model_and_makes_no_storm() -> None:
    """Every write fails for a while. Nobody talks more for that: a report used to bring a receipt, that a write which
    failed, and that the next report, as fast as messages travel."""

    async def scene(fleet: Fleet, injector: Injector) -> None:
        before = fleet.world.broker.publishes
        outcomes = await roll_out(fleet, 2, FailingDisk(lasts="20s", operations=15, errors=200))
        fleet.check()
        assert fleet.world.broker.publishes - before < 120
        assert set(outcomes) <= {Outcome.SUCCEEDED, Outcome.FAILED_NO_CHANGE}
        assert set(versions(fleet)) <= {1, 2}

    assert live(scene).world.fired["failing_disk"] > 0


def test_a_slow_disk_delays_only() -> None:
    """Two tenths of a second for each operation."""

    async def scene(fleet: Fleet, injector: Injector) -> None:
        assert await roll_out(fleet, 2, SlowDisk(lasts="60s")) == [Outcome.SUCCEEDED] * 2

    assert live(scene).world.fired["slow_disk"] > 50


def test_a_start_that_takes_long_to_write_down_forgets_nothing() -> None:
    """Longer than a start takes to count as lasting: that used to write an empty record over the true one."""

    async def scene(fleet: Fleet, injector: Injector) -> None:
        device = fleet.devices[0]
        before = device.record()
        injector.plan(SlowDisk(lasts="5m", delay="6s"))
        await fleet.world.clock.sleep(SECOND)
        device.power_cut(SECOND)
        for _ in range(40):
            await fleet.world.clock.sleep(5 * SECOND)
            now = device.record()
            assert (now.boot >= before.boot, now.sequence, versions(fleet)) == (True, before.sequence, [1, 1])
        assert device.record().boot == before.boot + 1

    live(scene)


def test_wrong_clocks_of_devices_keep_nothing_from_being_installed() -> None:
    """A year behind, and a year ahead: devices ask the director for the time."""

    async def scene(fleet: Fleet, injector: Injector) -> None:
        assert await roll_out(fleet, 2, ClockJump(by="365d", back=True)) == [Outcome.SUCCEEDED] * 2
        assert await roll_out(fleet, 3, ClockJump(by="730d")) == [Outcome.SUCCEEDED] * 2
        assert [device.clock.skew_ns for device in fleet.devices] == [365 * DAY_NS] * 2

    assert live(scene).world.fired["clock_jump"] == 4


def test_a_hub_that_hears_badly_and_loses_its_connection_brings_the_rollout_to_its_end() -> None:
    """What devices say gets lost, doubled and late; the connection breaks in the midst."""

    async def scene(fleet: Fleet, injector: Injector) -> None:
        muddle = BadHubNetwork(lasts="30s", loss=0.2, duplication=0.3, reordering=0.2, delay="900ms")
        cut_off = HubCutOff(at="3s")
        await roll_out(fleet, 2, muddle, cut_off, step_s=90.0)  # a publish is given up after 30 s
        await fleet.world.clock.sleep(120 * SECOND)
        assert versions(fleet) == [2, 2]

    fleet = live(scene)
    assert fleet.world.fired["hub_cut_off"] == 1
    assert fleet.world.faults.reordered > 0


def test_troubles_of_one_disk_add_up_and_end_one_by_one() -> None:
    """A full one that is slow, too: that it is quick again does not make room, nor does the end of one shortage."""

    async def scene(fleet: Fleet, injector: Injector) -> None:
        disk = fleet.devices[0].disk
        for fault in (FullDisk(lasts="30s"), SlowDisk(lasts="5s"), SlowDisk(lasts="20s"), FullDisk(lasts="10s")):
            injector.plan(fault)
        took = []
        for _ in range(4):
            await fleet.world.clock.sleep(7 * SECOND)
            before = fleet.world.clock.monotonic_ns()
            await disk.size("state.json")
            took.append((fleet.world.clock.monotonic_ns() - before) * 10 // SECOND)
            assert (disk.fails, await disk.free_bytes()) == (True, 0)
        assert took == [2, 2, 0, 0]
        await fleet.world.clock.sleep(4 * SECOND)
        assert not disk.fails

    live(scene)


def test_the_power_stays_off_for_as_long_as_was_said() -> None:
    """At a counted operation, too: that used to take any while up to a minute and a half."""

    async def scene(fleet: Fleet, injector: Injector) -> None:
        device = fleet.devices[0]
        await roll_out(fleet, 2, PowerCut(operations=1, off="300s", devices=Among(names=(device.name,))))
        await fleet.world.clock.sleep(60 * SECOND)
        assert (device.reboots, device.process.alive) == (1, False)
        await fleet.world.clock.sleep(260 * SECOND)
        assert device.process.alive

    live(scene)


def test_an_order_of_long_ago_turns_nobody_back() -> None:
    """The broker hands out what it retained before version 2 was ordered."""

    async def scene(fleet: Fleet, injector: Injector) -> None:
        assert await roll_out(fleet, 2, StaleOrders(age="45s")) == [Outcome.SUCCEEDED] * 2
        await fleet.world.clock.sleep(30 * SECOND)
        assert versions(fleet) == [2, 2]

    assert live(scene).world.fired["stale_orders"] == 2
