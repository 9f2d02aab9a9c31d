"""What a device holds for the present and for the newest: wrong clocks, frozen and lost metadata, silence, slowness."""

import asyncio

import pytest

from edge_agent.core.trust import parse_files
from edge_agent.service.trusting import METADATA
from simulator.core.clock import EPOCH_NS
from tests.scenes.agent_life import HOUR, ONE, TWO, Life, answers, ended
from tests.worlds.agent_world import DEVICE, Device, assign, committed, wanted
from tests.worlds.trust_world import NOW_NS, piece
from wire.asks import AskMetadata, AskTime, MetadataPiece
from wire.messages import Outcome
from wire.ports import SECOND
from wire.trust import DAY_S

# Time.


@pytest.mark.parametrize("year", [1970, 2099])
def test_with_a_wrong_clock_the_time_told_counts(year: int) -> None:
    """It installs, keeps the floor, and takes part in rounds that end by the director's clock."""
    life = Life(skew_ns=-EPOCH_NS if year == 1970 else 73 * 365 * DAY_S * SECOND)

    async def scene(unit: Device) -> None:
        await life.install(1, 1)
        assert unit.reconciler.record.time_floor_ns == NOW_NS
        assert unit.reconciler.record.trust.verified_ns == NOW_NS
        assert 0 <= unit.host.now_ns() - NOW_NS < HOUR

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


def test_that_metadata_is_still_fresh_is_told_along_with_news_or_twice_a_day() -> None:
    """A report for every look would be most of what a device at rest says; a new root is told at once."""
    life = Life()

    async def scene(unit: Device) -> None:
        await life.report(lambda one: one.trust.verified_ns == NOW_NS)
        told, cloud = len(life.air.reports), life.air.cloud
        for hours in (5, 5):
            cloud.now_ns += hours * 3600 * SECOND
            await life.clock.sleep(5 * HOUR)
        assert unit.reconciler.record.trust.verified_ns > NOW_NS
        assert len(life.air.reports) == told, "nothing that the hub does not know"
        cloud.now_ns = NOW_NS + 13 * 3600 * SECOND
        await life.clock.sleep(5 * HOUR)
        (alone,) = life.air.reports[told:]
        assert alone.trust.verified_ns > NOW_NS + 3600 * SECOND
        cloud.repository.rotate()
        await life.clock.sleep(5 * HOUR)
        assert life.air.reports[-1].trust.root == 2

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
