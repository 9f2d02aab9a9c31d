"""How a device downloads, in virtual time: within its bandwidth, not for ever, alone if need be, by delta if it can."""

import io
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest

from edge_agent.service.objects import path_of
from simulator.core.clock import VirtualClock
from simulator.core.loop import VirtualLoop
from simulator.core.rng import Rng
from simulator.memory_disk import MemoryDisk
from tests.worlds.agent_world import DEVICE, TOPICS, Air, AirLink, Gear, Shipped, assign, device, ship, wanted
from wire.adapters.zstd_delta import pack, unpack
from wire.asks import Ask, AskChunks
from wire.assignment import Delta, TransferPolicy
from wire.codec import decode
from wire.errors import MalformedError
from wire.messages import Outcome, Phase, SlotReport
from wire.ports import SECOND
from wire.release import object_ref
from wire.transfer.chunks import CHUNK_BYTES, frame, frames

BASE = Rng(1).bytes(20 * CHUNK_BYTES)
TARGET = BASE[:1000] + b"changed" + BASE[1000:]
ONE, TWO = ship(1, model=BASE), ship(2, model=TARGET)
MODEL = TWO.release.variants[0].file


@dataclass
class Unit:
    """A device in virtual time and what is around it."""

    air: Air
    disk: MemoryDisk
    clock: VirtualClock
    link: AirLink


def play(scene: Callable[[Unit], Coroutine[Any, Any, None]], *shipped: Shipped) -> None:
    """Start a device around which these releases are retained, and play a scene."""
    loop = VirtualLoop(Rng(7))
    clock = VirtualClock(loop)

    async def run() -> None:
        air, disk = Air(), MemoryDisk()
        for one in shipped:
            air.hold(one)
        link = AirLink(air)
        async with device(Gear(disk, clock, link)):
            await scene(Unit(air, disk, clock, link))

    loop.run(run())


async def ended(unit: Unit, execution: str) -> SlotReport:
    """The report in which this execution has ended."""
    while True:
        for report in reversed(unit.air.reports):
            for slot in report.slots:
                if slot.execution == execution and slot.phase in (Phase.COMMITTED, Phase.FAILED):
                    return slot
        await unit.clock.sleep(SECOND // 10)


def test_the_bandwidth_cap_holds() -> None:
    """20 chunks at two a second; the transfer is not taken for a stalled one."""

    async def scene(unit: Unit) -> None:
        policy = TransferPolicy(max_rate=2 * CHUNK_BYTES)
        timing = {"step_timeout_s": 5.0, "total_timeout_s": 300.0}
        unit.air.desire(assign(1, wanted(TWO, "e1", timing=timing), transfer=policy))
        slot = await ended(unit, "e1")
        assert slot.outcome is Outcome.SUCCEEDED
        assert 8.0 <= slot.figures.download_s <= 12.0

    play(scene, TWO)


def test_what_two_slots_want_is_downloaded_once() -> None:
    """The second transfer waits for the first, and finds what that left."""

    async def scene(unit: Unit) -> None:
        unit.air.desire(assign(1, wanted(TWO, "e1"), wanted(TWO, "e2", slot="second")))
        ends = [await ended(unit, execution) for execution in ("e1", "e2")]
        assert [end.outcome for end in ends] == [Outcome.SUCCEEDED] * 2
        assert sum(end.figures.downloaded_bytes for end in ends) < len(TARGET) + CHUNK_BYTES

    play(scene, TWO)


def test_a_drip_is_given_up_and_a_slow_link_is_not() -> None:
    """Something new comes every four seconds, for ever; it is too little only against the policy's rate."""

    async def drip(unit: Unit) -> None:
        for index, payload in enumerate(frames(TARGET)):
            await unit.clock.sleep(4 * SECOND)
            unit.air.send(TOPICS.blob(MODEL.sha256, index), payload, retain=True)

    async def scene(unit: Unit, min_rate: int) -> SlotReport:
        unit.air.drop(MODEL.sha256)
        policy = TransferPolicy(min_rate=min_rate, min_rate_window_s=20.0)
        timing = {"step_timeout_s": 10.0, "total_timeout_s": 600.0}
        unit.air.desire(assign(1, wanted(TWO, "e1", timing=timing), transfer=policy))
        await drip(unit)
        return await ended(unit, "e1")

    async def impatient(unit: Unit) -> None:
        slot = await scene(unit, CHUNK_BYTES)
        assert slot.outcome is Outcome.TIMED_OUT
        assert "only" in slot.reason
        assert "bytes in 20 s" in slot.reason

    async def patient(unit: Unit) -> None:
        assert (await scene(unit, CHUNK_BYTES // 8)).outcome is Outcome.SUCCEEDED

    play(impatient, TWO)
    play(patient, TWO)


def test_a_link_that_is_down_costs_time_and_no_attempt() -> None:
    """Ten minutes in the middle of the download: neither stalled nor too slow."""

    async def scene(unit: Unit) -> None:
        topic = TOPICS.blob(MODEL.sha256, 12)
        chunk = unit.air.retained.pop(topic)
        timing = {"step_timeout_s": 30.0, "total_timeout_s": 3_600.0}
        unit.air.desire(assign(1, wanted(TWO, "e1", timing=timing)))
        await unit.clock.sleep(SECOND)
        await unit.link.stop()
        unit.air.retained[topic] = chunk
        await unit.clock.sleep(600 * SECOND)
        await unit.link.start()
        slot = await ended(unit, "e1")
        assert slot.outcome is Outcome.SUCCEEDED
        assert slot.figures.downloaded_bytes < len(TARGET) + 2 * CHUNK_BYTES

    play(scene, TWO)


def test_what_nobody_retains_is_asked_for_within_seconds_and_then_by_the_window() -> None:
    """The first questions come after silence, all others as soon as there is room."""

    async def scene(unit: Unit) -> None:
        unit.air.drop(MODEL.sha256)
        unit.air.desire(assign(1, wanted(TWO, "e1", timing={"step_timeout_s": 30.0})))
        answered = 0
        while not any(slot.phase is Phase.COMMITTED for report in unit.air.reports[-1:] for slot in report.slots):
            sent = [decode(data, Ask).what for topic, data in unit.air.published if topic == TOPICS.up(DEVICE, "ask")]
            asks = [what for what in sent if isinstance(what, AskChunks)]
            for what in asks[answered:]:
                for index in what.indices:
                    unit.air.send(TOPICS.dn_chunk(DEVICE, what.sha256, index), frame(TARGET, index))
            answered = len(asks)
            await unit.clock.sleep(SECOND // 20)
        slot = await ended(unit, "e1")
        assert slot.figures.download_s < 12.0
        assert 3 <= answered <= 8

    play(scene, TWO)


def delta_of(data: bytes, base: bytes = BASE) -> Delta:
    """An offer of this delta."""
    return Delta(base=object_ref(base).sha256, file=object_ref(data).brief())


async def update_by(unit: Unit, data: bytes, offer: Delta) -> SlotReport:
    """Commit version 1, then offer version 2 with a delta."""
    unit.air.desire(assign(1, wanted(ONE, "e1")))
    assert (await ended(unit, "e1")).outcome is Outcome.SUCCEEDED
    for index, payload in enumerate(frames(data)):
        unit.air.retained[TOPICS.blob(offer.file.sha256, index)] = payload
    unit.air.desire(assign(2, wanted(TWO, "e2", deltas=(offer,))))
    slot = await ended(unit, "e2")
    assert unit.disk.peek(path_of(MODEL.sha256)) == TARGET
    assert unit.disk.peek(path_of(offer.file.sha256)) is None, "what was only a means is not kept"
    return slot


def test_a_delta_from_the_model_that_is_here_is_enough() -> None:
    """No byte of the model itself is fetched."""

    async def scene(unit: Unit) -> None:
        delta = pack(BASE, TARGET)
        unit.air.drop(MODEL.sha256)
        slot = await update_by(unit, delta, delta_of(delta))
        assert (slot.outcome, slot.figures.by_delta) == (Outcome.SUCCEEDED, True)
        assert slot.figures.downloaded_bytes < len(delta) + 100

    play(scene, ONE, TWO)


GOOD = pack(BASE, TARGET)
HOSTILE = {
    "a bomb": (pack(BASE, bytes(len(TARGET) + 1)), "unpacks to more than"),
    "cut off": (GOOD[: len(GOOD) // 2], "delta"),
    "another target": (pack(BASE, TARGET[:5000] + b"!" + TARGET[5001:]), "what arrived has digest"),
    "too short": (pack(BASE, TARGET[:-1]), "expected"),
    "no delta": (Rng(9).bytes(5_000), "cannot be unpacked"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_delta_costs_the_fallback_and_says_why(kind: str) -> None:
    """The object comes instead, but for chunks of it that came by the delta, and the figures name the reason."""
    data, reason = HOSTILE[kind]

    async def scene(unit: Unit) -> None:
        slot = await update_by(unit, data, delta_of(data))
        assert (slot.outcome, slot.figures.by_delta) == (Outcome.SUCCEEDED, False)
        assert reason in slot.figures.delta_refused
        spent = slot.figures.downloaded_bytes - len(data)
        least = CHUNK_BYTES if kind == "another target" else len(TARGET)
        assert least <= spent < least + 100

    play(scene, ONE, TWO)


def test_a_delta_that_never_comes_or_builds_on_what_is_not_here_costs_the_fallback() -> None:
    """Absent chunks, and a base that this device never had."""

    async def absent(unit: Unit) -> None:
        slot = await update_by(unit, b"", delta_of(GOOD))
        assert (slot.outcome, slot.figures.by_delta) == (Outcome.SUCCEEDED, False)
        assert "nothing new" in slot.figures.delta_refused

    async def foreign(unit: Unit) -> None:
        slot = await update_by(unit, GOOD, delta_of(GOOD, base=b"never here"))
        assert (slot.outcome, slot.figures.by_delta, slot.figures.delta_refused) == (Outcome.SUCCEEDED, False, "")

    play(absent, ONE, TWO)
    play(foreign, ONE, TWO)


@pytest.mark.parametrize("cut", range(0, len(GOOD) - 1, max(1, len(GOOD) // 40)))
def test_a_delta_cut_anywhere_is_malformed(cut: int) -> None:
    """Never a shorter file, never another error."""
    with pytest.raises(MalformedError):
        b"".join(unpack(BASE, io.BytesIO(GOOD[:cut]), len(TARGET)))
