"""How an execution ended is told until the hub has taken it, also when the next one began long before."""

import asyncio
from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from edge_agent.core.pointer import MAX_SHORT_STARTS
from edge_agent.core.resume import MAX_TRIES
from edge_agent.core.update import MAX_FINISHED
from edge_agent.ports import CanaryRequest, CanaryVerdict, Disk
from simulator.core.clock import VirtualClock
from simulator.fakes.device import FixedMachine
from simulator.fakes.runtime import LightRuntime, LightSession
from simulator.memory_disk import MemoryDisk
from tests.scenes.agent_scenes import ONE, TWO, air_with, gear, in_virtual_time, run
from tests.worlds.agent_world import TOPICS, Air, AirLink, Gear, assign, device, ship, wanted
from wire.adapters.system import SystemClock
from wire.messages import Capabilities, Outcome, Phase, Reported, SlotReport
from wire.ports import SECOND
from wire.release import Variant


class StuckInstaller:
    """A canary that never ends, as if it took the daemon with it."""

    def __init__(self) -> None:
        self.tried = 0
        self.entered = asyncio.Event()

    async def canary(self, request: CanaryRequest) -> CanaryVerdict:
        """Never."""
        self.tried += 1
        self.entered.set()
        await asyncio.Event().wait()
        raise AssertionError


class DeadlyRuntime(LightRuntime):
    """Never comes back from loading these paths, as if it took the daemon with it."""

    def __init__(self, disk: Disk, deadly: set[str]) -> None:
        super().__init__(disk, SystemClock())
        self.entered = asyncio.Event()
        self._deadly = deadly

    async def load(self, path: str) -> LightSession:
        """The session, or never."""
        if path in self._deadly:
            self.entered.set()
            await asyncio.Event().wait()
        return await super().load(path)


class SmallMachine(FixedMachine):
    """Hardly any flash."""

    def capabilities(self, free_bytes: int) -> Capabilities:
        """As the others, with 1000 bytes left."""
        return super().capabilities(1_000)


def ended(execution: str) -> Callable[[SlotReport], bool]:
    """Has this execution an outcome?"""
    return lambda slot: slot.execution == execution and slot.outcome is not None


def told(report: Reported) -> dict[str, tuple[Outcome | None, str]]:
    """Of executions that were left behind: outcome and reason."""
    return {one.execution: (one.outcome, one.reason) for one in report.finished}


def test_an_outcome_that_nobody_took_is_told_beside_the_next_execution() -> None:
    """No receipt for the first; it comes with the reports of the second, also after a restart, until it is taken."""

    async def scenario() -> None:
        air, disk = air_with(), MemoryDisk()
        air.receipts = False
        async with device(gear(air, disk)):
            air.desire(assign(1, wanted(ONE, "e1")))
            await air.slot(ended("e1"))
            air.desire(assign(2, wanted(TWO, "e2")))
            report = await air.report(lambda one: any(ended("e2")(slot) for slot in one.slots))
            first = report.finished[0]
            assert (first.execution, first.outcome, first.current) == ("e1", Outcome.SUCCEEDED, first.current)
            assert first.current is not None
            assert first.current.version == 1
            assert first.golden is not None
        async with device(gear(air, disk)) as unit:
            report = await air.report(lambda one: one.seq >> 32 == 2)
            assert list(told(report)) == ["e1"]
            air.receipts = True
            unit.agent._reports.changed()
            await air.report(lambda one: one.finished == ())
        async with device(gear(air, disk)) as unit:
            assert unit.reconciler.record.slots["main"].finished == ()

    run(scenario)


def test_an_execution_that_is_replaced_ends_as_cancelled() -> None:
    """The hub would wait for it until its time is up."""

    async def scenario() -> None:
        air, installer = air_with(), StuckInstaller()
        air.receipts = False
        async with device(Gear(MemoryDisk(), SystemClock(), AirLink(air), installer=installer)):
            air.desire(assign(1, wanted(ONE, "e1")))
            await installer.entered.wait()
            air.desire(assign(2, wanted(TWO, "e2")))
            report = await air.report(lambda one: one.sequence == 2)
            assert told(report) == {"e1": (Outcome.CANCELLED, "replaced by a newer assignment")}

    run(scenario)


def test_another_attempt_of_the_same_execution_has_left_nothing_behind() -> None:
    """It has one outcome, the last attempt's."""

    async def scenario() -> None:
        air, installer = air_with(), StuckInstaller()
        async with device(Gear(MemoryDisk(), SystemClock(), AirLink(air), installer=installer)):
            air.desire(assign(1, wanted(ONE, "e1")))
            await installer.entered.wait()
            air.desire(assign(2, wanted(ONE, "e1", attempt=2)))
            assert told(await air.report(lambda one: one.sequence == 2)) == {}

    run(scenario)


def test_only_so_many_are_remembered() -> None:
    """Offline for a year, with a hub that takes nothing: the record stays small."""

    async def scenario(clock: VirtualClock) -> None:
        air = air_with()
        air.receipts = False
        async with device(gear(air, clock=clock)):
            for number in range(1, MAX_FINISHED + 4):
                air.desire(assign(number, wanted((ONE, TWO)[number % 2], f"e{number}")))
                report = await air.report(lambda one, n=number: any(ended(f"e{n}")(slot) for slot in one.slots))  # type: ignore[misc]
            last = MAX_FINISHED + 2
            assert list(told(report)) == [f"e{number}" for number in range(last - MAX_FINISHED + 1, last + 1)]

    in_virtual_time(scenario)


def test_a_canary_that_takes_the_daemon_with_it_is_given_up() -> None:
    """Three starts with it, the fourth leaves it alone: what was current serves all the time, and nothing is tried."""

    async def scenario() -> None:
        air, disk, installer = air_with(), MemoryDisk(), StuckInstaller()
        async with device(gear(air, disk)):
            air.desire(assign(1, wanted(ONE, "e1")))
            await air.slot(ended("e1"))
        air.desire(assign(2, wanted(TWO, "e2")))
        for _ in range(3):
            installer.entered.clear()
            async with device(Gear(disk, SystemClock(), AirLink(air), installer=installer)) as unit:
                await installer.entered.wait()
                live = unit.inference.live("main")
                assert live is not None
                assert live.installed.version == 1
        async with device(Gear(disk, SystemClock(), AirLink(air), installer=installer)):
            report = await air.slot(ended("e2"))
            assert (report.phase, report.outcome) == (Phase.FAILED, Outcome.FAILED_NO_CHANGE)
            assert report.reason == "the agent was restarted 3 times while the model was tried in the canary"
            assert report.current is not None
            assert report.current.version == 1
        assert installer.tried == 3

    run(scenario)


async def on_trial(gear: Gear, entered: asyncio.Event) -> None:
    """A device that lives until it is on trial with version 2, says so, and waits for its end."""
    async with device(gear) as unit:
        while (await unit.inference.predict(np.zeros(4, np.float32))).version != 2:
            await asyncio.sleep(0.01)
        entered.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize("dies_in", ["load", "health"])
def test_a_trial_that_takes_the_daemon_with_it_is_given_up(dies_in: str) -> None:
    """While its model is loaded, or while it serves: the fourth start is on the model before it, and says why."""

    async def scenario() -> None:
        air, disk = air_with(), MemoryDisk()
        async with device(gear(air, disk)):
            air.desire(assign(1, wanted(ONE, "e1")))
            await air.slot(ended("e1"))
        air.desire(assign(2, wanted(TWO, "e2", timing={"health_window_s": 1_000.0})))
        deadly = {f"objects/{TWO.release.variants[0].file.sha256}"} if dies_in == "load" else set()
        for _ in range(3):
            runtime = DeadlyRuntime(disk, deadly)
            life = asyncio.create_task(
                on_trial(Gear(disk, SystemClock(), AirLink(air), runtime=runtime), runtime.entered)
            )
            await runtime.entered.wait()
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)
        async with device(gear(air, disk)) as unit:
            report = await air.slot(ended("e2"))
            assert (report.outcome, report.current and report.current.version) == (Outcome.ROLLED_BACK, 1)
            assert report.reason == "the agent was restarted 3 times during the trial"
            live = unit.inference.live("main")
            assert live is not None
            assert live.installed.version == 1

    run(scenario)


def test_what_does_not_fit_is_rejected_before_a_byte_of_it_is_fetched() -> None:
    """The device asks the same question as the hub, and does not take the hub's word."""

    async def scenario() -> None:
        needs = msgspec.structs.replace(ONE.release.variants[0].needs, flash_bytes=100_000)
        variant: Variant = msgspec.structs.replace(ONE.release.variants[0], needs=needs)
        big = ship(1, variants=(variant,))
        air = Air()
        air.hold(big)
        link = AirLink(air)
        asked: set[str] = set()
        subscribe = link.subscribe

        async def noting(*filters: str) -> None:
            asked.update(filters)
            await subscribe(*filters)

        link.subscribe = noting  # type: ignore[method-assign]
        async with device(Gear(MemoryDisk(), SystemClock(), link, machine=SmallMachine())):
            air.desire(assign(1, wanted(big, "e1")))
            report = await air.slot(ended("e1"))
            assert report.outcome is Outcome.REJECTED
            assert report.reason == "variant fp32: needs 100000 bytes of flash, this device has 1000 free"
        assert any(big.ref.sha256 in topic for topic in asked)
        assert not any(variant.file.sha256 in topic for topic in asked), "not one chunk of the model"
        assert TOPICS.dn("p01-left", "desired") in asked

    run(scenario)


def test_at_the_start_what_nobody_needs_is_swept_away() -> None:
    """Parts of a transfer that is wanted no more, and objects of nobody; current and previous stay."""

    async def scenario() -> None:
        air, disk = air_with(), MemoryDisk()
        async with device(gear(air, disk)):
            for number, one in enumerate((ONE, TWO), start=1):
                air.desire(assign(number, wanted(one, f"e{number}")))
                await air.slot(ended(f"e{number}"))
        kept = set(await disk.list("objects"))
        for name in (f".{'ab' * 32}.part", f".{'ab' * 32}.have", "cd" * 32):
            await disk.create(f"objects/{name}", 10)
        async with device(gear(air, disk)):
            assert set(await disk.list("objects")) == kept
        models = {one.release.variants[0].file.sha256 for one in (ONE, TWO)}
        assert models <= kept

    run(scenario)


async def rolled_back(gear: Gear, air: Air) -> SlotReport:
    """A device that lives until it has rolled back."""
    async with device(gear):
        return await air.slot(lambda slot: slot.outcome is Outcome.ROLLED_BACK)


def test_a_committed_model_that_takes_the_daemon_with_it_gives_way() -> None:
    """After five starts that did not last: the one before it serves, and it has to pass canary and trial again."""

    async def scenario() -> None:
        air, disk = air_with(), MemoryDisk()
        for number, shipped in enumerate((ONE, TWO), 1):
            async with device(gear(air, disk)):
                air.desire(assign(number, wanted(shipped, f"e{number}")))
                await air.slot(ended(f"e{number}"))
        air.reports.clear()
        deadly = f"objects/{TWO.release.variants[0].file.sha256}"
        for _ in range(MAX_SHORT_STARTS + MAX_TRIES + 2):
            runtime = DeadlyRuntime(disk, {deadly})
            life = asyncio.create_task(rolled_back(Gear(disk, SystemClock(), AirLink(air), runtime=runtime), air))
            death = asyncio.create_task(runtime.entered.wait())
            await asyncio.wait((life, death), return_when=asyncio.FIRST_COMPLETED)
            if life.done():
                break
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)
        death.cancel()
        report = await life
        assert report.reason == "the agent was restarted 3 times during the trial"
        assert report.current is not None
        assert report.current.version == 1

    run(scenario)


def test_a_start_that_lasts_counts_for_nothing() -> None:
    """However many there are, and whatever ends them."""

    async def scenario(clock: VirtualClock) -> None:
        air, disk = air_with(), MemoryDisk()
        air.desire(assign(1, wanted(ONE, "e1")))
        for _ in range(2 * MAX_SHORT_STARTS):
            async with device(gear(air, disk, clock)) as unit:
                await clock.sleep(30 * SECOND)
                assert unit.reconciler.record.short_starts == 0
                assert unit.inference.ready().deployed.installed.version == 1

    in_virtual_time(scenario)


def test_five_power_cuts_do_not_cost_the_only_model() -> None:
    """It is left out until the start has lasted, then it answers again; no hub is needed for that."""

    async def scenario(clock: VirtualClock) -> None:
        air, disk = air_with(), MemoryDisk()
        air.desire(assign(1, wanted(ONE, "e1")))
        async with device(gear(air, disk, clock)):
            await clock.sleep(60 * SECOND)
        for _ in range(MAX_SHORT_STARTS):
            async with device(gear(Air(), disk, clock)) as unit:
                await clock.sleep(SECOND)
                assert unit.inference.ready().deployed.installed.version == 1
        async with device(gear(Air(), disk, clock)) as unit:
            assert unit.inference.live("main") is None
            assert "start after start" in unit.reconciler.record.slot("main").reason
            await clock.sleep(30 * SECOND)
            assert unit.inference.ready().deployed.installed.version == 1

    in_virtual_time(scenario)
