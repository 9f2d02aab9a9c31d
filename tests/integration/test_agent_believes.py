"""What a whole device believes, and goes on believing: replaced keys, lost records, wrong clocks, silence, slowness."""

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from edge_agent.core.trust import Judgement, Question, parse_files
from edge_agent.ports import FetchMetadata
from edge_agent.service.freshness import UNKNOWN_DIRECTOR_NS
from edge_agent.service.trusting import METADATA
from simulator.core.clock import EPOCH_NS, VirtualClock
from simulator.core.loop import VirtualLoop
from simulator.core.rng import Rng
from simulator.fakes.trust import InlineTrust
from simulator.fakes.tuf_repository import TufRepository, new_key
from simulator.memory_disk import MemoryDisk
from tests.agent_world import DEVICE, Air, AirLink, Device, Gear, assign, committed, device, ship, wanted
from tests.trust_world import DIRECTOR, NOW_NS, ROOT, STRANGER, fork, piece
from wire.asks import AskMetadata, AskTime, MetadataPiece
from wire.messages import Outcome, Phase, Reported, SlotReport
from wire.ports import SECOND
from wire.trust import DAY_S

ONE, TWO = ship(1), ship(2)
HOUR = 3600 * SECOND


def ended(execution: str) -> Callable[[SlotReport], bool]:
    """Failed in this execution?"""
    return lambda slot: slot.phase is Phase.FAILED and slot.execution == execution


class Life:
    """One device in virtual time: its disk outlives its starts, its clock may be wrong."""

    def __init__(self, skew_ns: int = 0, told_ns: int | None = NOW_NS) -> None:
        self.skew_ns = skew_ns
        self.clock: VirtualClock
        self.disk = MemoryDisk()
        self.trust = InlineTrust(ROOT)
        self.air = Air()
        self.air.cloud.now_ns = told_ns
        for shipped in (ONE, TWO):
            self.air.hold(shipped)

    @property
    def repository(self) -> TufRepository:
        """The honest one."""
        return self.air.cloud.repository

    def live(self, scene: Callable[[Device], Awaitable[None]]) -> None:
        """From a start of the agent to its end."""

        loop = VirtualLoop(Rng(1))
        self.clock = VirtualClock(loop, self.skew_ns)

        async def whole() -> None:
            async with device(Gear(self.disk, self.clock, AirLink(self.air), trust=self.trust)) as unit:
                await scene(unit)

        loop.run(whole())

    async def slot(self, good: Callable[[SlotReport], bool]) -> SlotReport:
        """The newest state of the slot, once it is `good`."""
        while not (self.air.reports and self.air.reports[-1].slots and good(self.air.reports[-1].slots[0])):
            await self.clock.sleep(SECOND // 10)
        return self.air.reports[-1].slots[0]

    async def report(self, good: Callable[[Reported], bool]) -> Reported:
        """The newest report, once it is `good`."""
        while not (self.air.reports and good(self.air.reports[-1])):
            await self.clock.sleep(SECOND // 10)
        return self.air.reports[-1]

    async def install(self, version: int, sequence: int) -> None:
        """Have this version committed."""
        shipped = {1: ONE, 2: TWO}[version]
        self.air.desire(assign(sequence, wanted(shipped, f"e{sequence}")))
        await self.slot(committed(version))


async def answers(unit: Device) -> int:
    """The version that answers the application now."""
    return (await unit.inference.predict(np.zeros(4, np.float32))).version


# The director.


def test_a_replaced_director_is_heard_of_though_nothing_is_installed_and_the_old_key_is_dead() -> None:
    """The first assignment of the new key makes the device look; its sequence starts anew, the old one's is over."""
    life = Life()

    async def scene(unit: Device) -> None:
        await life.install(1, 2**40)
        await life.clock.sleep(10 * SECOND)
        looks = life.air.cloud.names.count("timestamp.json")
        life.repository.director_keys = (STRANGER.public_hex,)
        life.repository.rotate()
        life.air.cloud.director = STRANGER
        life.air.desire(assign(3, wanted(TWO, "e3"), key=STRANGER))
        await life.slot(committed(2))
        assert (await life.report(lambda one: one.refused == "")).sequence == 3
        life.air.desire(assign(2**41, wanted(ONE, "evil"), key=DIRECTOR))
        report = await life.report(lambda one: bool(one.refused))
        assert "no trusted key" in report.refused
        assert (report.trust.root, report.sequence) == (2, 3)
        assert life.air.cloud.names.count("timestamp.json") - looks < 6
        assert await answers(unit) == 2

    life.live(scene)


def test_a_stranger_who_assigns_again_and_again_costs_one_look_a_minute() -> None:
    """And is refused each time."""
    life = Life()

    async def scene(unit: Device) -> None:
        await life.install(1, 1)
        await life.clock.sleep(UNKNOWN_DIRECTOR_NS)
        before = len(life.air.cloud.asked)
        for sequence in range(2, 52):
            life.air.desire(assign(sequence, wanted(TWO), key=STRANGER))
            await life.clock.sleep(SECOND)
        assert "no trusted key" in life.air.reports[-1].refused
        assert len(life.air.cloud.asked) - before == 3, "the time, the next root, the timestamp"
        assert unit.reconciler.record.sequence == 1

    life.live(scene)


def test_a_rotation_reaches_a_device_by_the_hour_without_any_assignment() -> None:
    """And what it knows of trust is reported."""
    life = Life()

    async def scene(unit: Device) -> None:
        await life.report(lambda one: one.trust.verified_ns == NOW_NS)
        life.repository.director_keys = (STRANGER.public_hex,)
        life.repository.rotate()
        await life.clock.sleep(5 * HOUR)
        assert life.air.reports[-1].trust.root == 2
        assert unit.reconciler.record.trust.directors == (STRANGER.public_hex,)

    life.live(scene)


def test_a_device_whose_clock_stands_at_1970_still_learns_who_the_director_is_now() -> None:
    """The new key tells the time, but only the root says that it may: the root is learned before the time is known."""
    life = Life()
    life.live(lambda unit: life.install(1, 1))
    life.skew_ns = -EPOCH_NS
    life.repository.director_keys = (STRANGER.public_hex,)
    life.repository.rotate()
    life.air.cloud.director = STRANGER

    async def scene(unit: Device) -> None:
        life.air.desire(assign(1, wanted(TWO, "e2"), key=STRANGER))
        await life.slot(committed(2))

    life.live(scene)


def test_a_rotation_found_while_installing_does_not_fail_the_installation() -> None:
    """The time came from nobody known and all looked expired; with the new root it is asked once more."""
    life = Life(skew_ns=2 * DAY_S * SECOND)

    async def scene(unit: Device) -> None:
        await life.install(1, 1)
        await life.clock.sleep(10 * SECOND)
        life.repository.director_keys = (STRANGER.public_hex,)
        life.repository.rotate()
        life.air.cloud.director = STRANGER
        unit.reconciler._trusting._told = None
        life.air.desire(assign(2, wanted(TWO, "e2")))
        while not (life.air.reports[-1].slots[0].execution == "e2" and life.air.reports[-1].slots[0].outcome):
            await life.clock.sleep(SECOND)
        assert life.air.reports[-1].slots[0].outcome is Outcome.SUCCEEDED

    life.live(scene)


# Director and publisher must agree.


def test_what_the_publisher_does_not_list_is_never_even_fetched() -> None:
    """A stolen director key ships nothing of its own."""
    life = Life()
    evil = ship(3)
    life.air.hold(evil, vouched=False)
    other = ship(2, model=b"another model" * 9_000)
    life.air.hold(other, vouched=False)

    async def scene(unit: Device) -> None:
        await life.install(1, 1)
        cases = {
            "e3": (wanted(evil, "e3"), "does not list watch/3.json"),
            "e4": (wanted(other, "e4"), "is another file for the publisher than for the director"),
            "e5": (wanted(TWO, "e5", min_counter=3), "counter 2 is below the floor 3"),
            "e6": (wanted(TWO, "e6", release=other.ref), "is another file for the publisher"),
        }
        for sequence, (execution, (slot, reason)) in enumerate(cases.items(), 2):
            life.air.desire(assign(sequence, slot))
            report = await life.slot(ended(execution))
            assert (report.outcome, reason in report.reason) == (Outcome.REJECTED, True), report.reason
        assert not {evil.ref.sha256, other.ref.sha256} & set(await life.disk.list("objects"))
        assert await answers(unit) == 1

    life.live(scene)


# Time.


@pytest.mark.parametrize("year", [1970, 2099])
def test_with_a_wrong_clock_the_time_told_counts(year: int) -> None:
    """It installs, and keeps the floor."""
    life = Life(skew_ns=-EPOCH_NS if year == 1970 else 73 * 365 * DAY_S * SECOND)

    async def scene(unit: Device) -> None:
        await life.install(1, 1)
        assert unit.reconciler.record.time_floor_ns == NOW_NS
        assert unit.reconciler.record.trust.verified_ns == NOW_NS

    life.live(scene)


def test_a_clock_set_back_below_what_was_signed_blocks_installs_until_somebody_tells_the_time() -> None:
    """Never inference."""
    life = Life()
    life.live(lambda unit: life.install(1, 1))
    life.skew_ns = -365 * DAY_S * SECOND
    life.air.cloud.now_ns = None

    async def scene(unit: Device) -> None:
        life.air.desire(assign(2, wanted(TWO, "e2")))
        report = await life.slot(ended("e2"))
        assert "nobody tells the time" in report.reason
        assert await answers(unit) == 1
        life.air.cloud.now_ns = NOW_NS
        life.air.desire(assign(3, wanted(TWO, "e3")))
        await life.slot(committed(2))

    life.live(scene)


def test_without_a_time_told_a_plausible_clock_will_do() -> None:
    """A hub that tells no time is no reason to stop."""
    life = Life(told_ns=None)
    life.live(lambda unit: life.install(1, 1))


def test_a_time_that_was_signed_for_another_device_or_question_is_not_believed() -> None:
    """Nor replayed: then the clock decides, which is two days ahead here, so that all is expired."""
    life = Life(skew_ns=2 * DAY_S * SECOND)
    cloud = life.air.cloud
    honest = cloud._time
    recorded: list[object] = []

    def replayed(ask: AskTime, name: str) -> object:
        recorded.append(honest(ask, name))
        return recorded[0]

    async def scene(unit: Device) -> None:
        await life.clock.sleep(60 * SECOND)
        for sequence, lie in enumerate((replayed, lambda ask, name: honest(ask, "p02-left")), 1):
            cloud._time = lie  # type: ignore[assignment]
            unit.reconciler._trusting._told = None
            recorded[:] = [honest(AskTime(nonce="0" * 32), DEVICE)]
            life.air.desire(assign(sequence, wanted(ONE, f"e{sequence}")))
            assert "expired" in (await life.slot(ended(f"e{sequence}"))).reason

    life.live(scene)


def test_the_time_told_goes_on_while_the_device_is_suspended() -> None:
    """Nobody is there to tell it anew, and the clock is years behind."""
    life = Life(skew_ns=-(10**4) * DAY_S * SECOND)

    async def scene(unit: Device) -> None:
        await life.install(1, 1)
        before_ns = unit.reconciler._trusting.told_ns()
        assert before_ns is not None
        life.air.cloud.now_ns = None
        life.clock.suspended_ns = 2 * DAY_S * SECOND
        assert unit.reconciler._trusting.told_ns() == before_ns + 2 * DAY_S * SECOND
        life.air.desire(assign(2, wanted(TWO, "e2")))
        assert "expired" in (await life.slot(ended("e2"))).reason

    life.live(scene)


# Freeze, loss, slowness.


def test_a_freeze_blocks_installs_shows_in_the_status_and_never_stops_inference() -> None:
    """The same signed state for two days: known by the time told."""
    life = Life()

    async def scene(unit: Device) -> None:
        await life.install(1, 1)
        life.air.cloud.now_ns = NOW_NS + 2 * DAY_S * SECOND
        await life.clock.sleep(5 * HOUR)
        life.air.desire(assign(2, wanted(TWO, "e2")))
        report = await life.slot(ended("e2"))
        assert "expired" in report.reason
        assert "expired" in unit.agent._freshness.problem
        assert life.air.reports[-1].trust.verified_ns == NOW_NS
        assert await answers(unit) == 1

    life.live(scene)

    async def again(unit: Device) -> None:
        assert await answers(unit) == 1, "and a boot needs no metadata at all"

    life.live(again)


@pytest.mark.parametrize("loss", ["gone", "torn", "flipped"])
def test_a_lost_or_damaged_metadata_record_lets_no_replay_in_and_costs_one_download(loss: str) -> None:
    """The floors stand in the pointer record."""
    life = Life()
    older = dict(life.repository.files)
    life.repository.refresh()
    life.live(lambda unit: life.install(1, 1))
    data = life.disk.peek(METADATA)
    assert data is not None
    assert parse_files(data)

    async def damage() -> None:
        if loss == "gone":
            await life.disk.unlink(METADATA)
        else:
            await life.disk.create(METADATA, len(data))
            await life.disk.pwrite(
                METADATA, 0, data[: len(data) // 2] if loss == "torn" else data[:-9] + b"x" + data[-8:]
            )

    asyncio.run(damage())
    honest = life.air.cloud.serve
    life.air.cloud.replay(older)

    async def scene(unit: Device) -> None:
        life.air.desire(assign(2, wanted(TWO, "e2")))
        assert "is below" in (await life.slot(ended("e2"))).reason
        life.air.cloud.serve = honest
        life.air.desire(assign(3, wanted(TWO, "e3")))
        await life.slot(committed(2))

    life.live(scene)


def test_a_stall_and_a_drip_end_by_their_deadlines_as_timed_out() -> None:
    """Silence by the step's time; a byte every few seconds by the time that all of it may take."""
    life = Life()
    slow = {"step_timeout_s": 20.0, "total_timeout_s": 3_000.0}

    def stall(ask: AskMetadata) -> MetadataPiece | None:
        return None if ask.name == "timestamp.json" else piece(life.repository.files, ask)

    async def scene(unit: Device) -> None:
        await life.install(1, 1)
        life.repository.refresh()
        life.air.cloud.serve = stall
        life.air.desire(assign(2, wanted(TWO, "e2", timing=slow)))
        report = await life.slot(ended("e2"))
        assert (report.outcome, report.reason) == (Outcome.TIMED_OUT, "trust: the hub did not answer within 20 s")
        dripping = Drip(life)
        life.air.cloud.serve = dripping
        began_ns = life.clock.monotonic_ns()
        life.air.desire(assign(3, wanted(TWO, "e3", timing=slow)))
        report = await life.slot(ended("e3"))
        assert (report.outcome, "within 240 s" in report.reason) == (Outcome.TIMED_OUT, True), report.reason
        assert life.clock.monotonic_ns() - began_ns < 260 * SECOND
        assert await answers(unit) == 1

    life.live(scene)


class Drip:
    """Serves a byte at a time, each some seconds late."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._late: set[tuple[str, int]] = set()

    def __call__(self, ask: AskMetadata) -> MetadataPiece | None:
        """The first time a byte is asked for there is no answer; the device asks again three seconds later."""
        key = (ask.name, ask.offset)
        if key not in self._late:
            self._late.add(key)
            return None
        return piece(self._life.repository.files, ask, most=1)


def test_a_link_that_is_down_for_a_while_is_waited_for() -> None:
    """As a download does; only the execution's total time ends it."""
    life = Life()

    async def scene(unit: Device) -> None:
        await life.clock.sleep(60 * SECOND)
        link = life.air.link
        assert link is not None
        life.air.cloud.serve = lambda ask: None
        life.air.desire(assign(1, wanted(ONE, "e1", timing={"step_timeout_s": 5.0, "total_timeout_s": 600.0})))
        while not life.air.reports[-1].slots:
            await life.clock.sleep(SECOND // 100)
        link._connected = False
        await life.clock.sleep(120 * SECOND)
        life.air.cloud.serve = lambda ask: piece(life.repository.files, ask)
        await link.start()
        await life.slot(committed(1))

    life.live(scene)


# Whole keys stolen.


def test_a_fleet_locked_out_by_stolen_online_keys_comes_back_with_a_new_root() -> None:
    """Versions may begin again at one."""
    life = Life()

    async def scene(unit: Device) -> None:
        await life.install(1, 1)
        honest = fork(life.repository)
        life.repository.versions |= {"timestamp": 2**40, "snapshot": 2**40}
        life.repository.refresh()
        await life.clock.sleep(5 * HOUR)
        assert life.air.reports[-1].trust.timestamp == 2**40 + 1
        life.air.cloud.repository = honest
        life.air.desire(assign(2, wanted(TWO, "e2")))
        assert "version" in (await life.slot(ended("e2"))).reason
        honest.online_key = new_key()
        honest.rotate()
        honest.versions |= {"timestamp": 0, "snapshot": 0}
        honest.refresh()
        life.air.desire(assign(3, wanted(TWO, "e3")))
        await life.slot(committed(2))

    life.live(scene)


def test_with_targets_and_online_keys_stolen_nothing_moves_without_the_director() -> None:
    """A listed model is not an assigned one."""
    life = Life()

    async def scene(unit: Device) -> None:
        await life.install(1, 1)
        life.air.hold(ship(3))
        await life.clock.sleep(5 * HOUR)
        assert await answers(unit) == 1
        assert unit.reconciler.record.sequence == 1

    life.live(scene)


def test_the_assignment_of_another_device_is_nothing_to_this_one() -> None:
    """Though the director signed it."""
    life = Life()

    async def scene(unit: Device) -> None:
        await life.install(1, 1)
        life.air.desire(assign(9, wanted(TWO), device="p02-left"))
        assert "meant for device 'p02-left'" in (await life.report(lambda one: bool(one.refused))).refused
        assert unit.reconciler.record.sequence == 1

    life.live(scene)


def test_a_device_that_cannot_judge_has_failed_and_not_been_refused() -> None:
    """Its disk or memory is at fault, so the same assignment may be tried again."""
    life = Life()

    class Unable(InlineTrust):
        async def judge(self, question: Question, fetch: FetchMetadata, limit_s: float) -> Judgement:
            return Judgement(refusal="no space left", unable=True, floors=question.floors, files=question.files)

    life.trust = Unable(ROOT)

    async def scene(unit: Device) -> None:
        life.air.desire(assign(1, wanted(ONE, "e1")))
        report = await life.slot(ended("e1"))
        assert (report.outcome, report.reason) == (Outcome.FAILED_NO_CHANGE, "trust: no space left")

    life.live(scene)
