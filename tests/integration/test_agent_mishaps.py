"""The device when its own parts fail or its callers err: what answers goes on answering, and no task of it dies."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from edge_agent.adapters.directory_lock import DirectoryLock
from edge_agent.adapters.http_api import HttpRequest
from edge_agent.core.stats import Tally, Variant
from edge_agent.errors import DiskError, PredictionFailedError, RequestError
from edge_agent.ports import Counts
from edge_agent.service.durable import STATE
from edge_agent.service.part_file import PartFile
from simulator.fakes.device import MemoryCaptures
from simulator.memory_disk import MemoryDisk
from tests.worlds.agent_world import (
    CLASSES,
    DEVICE,
    TOPICS,
    Air,
    AirLink,
    Gear,
    assign,
    committed,
    device,
    ship,
    wanted,
)
from wire.adapters.system import SystemClock
from wire.codec import MAX_CONTROL_BYTES, decode
from wire.messages import Outcome, Phase, Telemetry
from wire.release import object_ref

Floats = npt.NDArray[np.float32]

ONE, TWO, THREE = ship(1), ship(2), ship(3)
X = np.zeros(4, np.float32)


class RottenDisk(MemoryDisk):
    """Reading a file that is rotten is an I/O error."""

    def __init__(self, capacity_bytes: int = 1 << 30) -> None:
        super().__init__(capacity_bytes)
        self.rotten: set[str] = set()

    async def read(self, path: str) -> bytes:
        """The file, unless it rots."""
        if path in self.rotten:
            raise DiskError(f"{path}: Input/output error")
        return await super().read(path)


class DeafCaptures(MemoryCaptures):
    """Counters that cannot be read for a while."""

    deaf = True

    async def counts(self) -> Counts:
        """Not now."""
        if self.deaf:
            raise DiskError("database disk image is malformed")
        return await super().counts()


class ManyCaptures(MemoryCaptures):
    """A device that has run many variants at every latency there is."""

    async def counts(self) -> Counts:
        """64 variants, 200 buckets each."""
        latency = dict.fromkeys(range(200), 10**9)
        tallies = (Tally(Variant("watch", number, "int8"), latency_us=latency) for number in range(64))
        return Counts(tuple(tallies), 0)


class OddSession:
    """Gives logits of a shape of its own."""

    def __init__(self, logits: Floats) -> None:
        self.logits = logits

    async def predict(self, x: Floats) -> Floats:
        """Always the same."""
        return self.logits


class OddRuntime:
    """Loads a session that starts out well."""

    def __init__(self) -> None:
        self.session = OddSession(np.zeros((1, CLASSES), np.float32))

    async def load(self, path: str) -> OddSession:
        """The one session."""
        return self.session


def air_with_all() -> Air:
    """An air that holds every release."""
    air = Air()
    for one in (ONE, TWO, THREE):
        air.hold(one)
    return air


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run one scenario."""
    asyncio.run(asyncio.wait_for(scenario(), 20))  # type: ignore[arg-type]


def test_a_model_file_that_cannot_be_read_does_not_keep_the_other_one_from_answering() -> None:
    """The disk has a bad sector where the current model lies: the one before it answers, and the current is healed."""

    async def scenario() -> None:
        air, disk = air_with_all(), RottenDisk()
        async with device(Gear(disk, SystemClock(), AirLink(air))):
            for number, shipped in ((1, ONE), (2, TWO)):
                air.desire(assign(number, wanted(shipped, f"e{number}")))
                await air.slot(committed(number))
        disk.rotten = {f"objects/{TWO.release.variants[0].file.sha256}"}
        async with device(Gear(disk, SystemClock(), AirLink(Air()))) as unit:
            assert (await unit.inference.predict(X)).version == 1

    run(scenario)


def test_a_record_that_cannot_be_read_is_replaced_by_its_copy() -> None:
    """Rot shows as an I/O error as often as in the bytes."""

    async def scenario() -> None:
        air, disk = air_with_all(), RottenDisk()
        async with device(Gear(disk, SystemClock(), AirLink(air))):
            air.desire(assign(1, wanted(ONE, "e1")))
            await air.slot(committed(1))
        disk.rotten = {STATE}
        async with device(Gear(disk, SystemClock(), AirLink(Air()))) as unit:
            assert (await unit.inference.predict(X)).version == 1
            assert unit.reconciler.record.sequence == 1

    run(scenario)


def test_counters_that_cannot_be_read_delay_telemetry_and_nothing_else() -> None:
    """The agent lives on, and tells them when it can."""

    async def scenario() -> None:
        air, captures = air_with_all(), DeafCaptures()
        async with device(Gear(MemoryDisk(), SystemClock(), AirLink(air), captures=captures)) as unit:
            air.desire(assign(1, wanted(ONE, "e1")))
            await air.slot(committed(1))
            await unit.inference.predict(X)
            await asyncio.sleep(0.3)
            captures.deaf = False
            await unit.inference.predict(X)
            await asyncio.sleep(0.3)
            assert any(topic == TOPICS.up(DEVICE, "telemetry") for topic, _ in air.published)

    run(scenario)


def test_telemetry_fits_into_what_the_hub_accepts() -> None:
    """Of more than fits, the variants used last are told."""

    async def scenario() -> None:
        air = air_with_all()
        async with device(Gear(MemoryDisk(), SystemClock(), AirLink(air), captures=ManyCaptures())) as unit:
            unit.inference.on_answered()
            await asyncio.sleep(0.3)
            sent = [payload for topic, payload in air.published if topic == TOPICS.up(DEVICE, "telemetry")]
            stats = decode(sent[-1], Telemetry, limit=MAX_CONTROL_BYTES).stats
            assert stats[-1].version == 63
            assert len(stats) > 10

    run(scenario)


@pytest.mark.parametrize("shape", [(0, CLASSES), (1, 0), (1,), (2, CLASSES), (1, CLASSES, 1)])
def test_logits_of_another_shape_are_the_models_failure(shape: tuple[int, ...]) -> None:
    """Also when they depend on the input, which golden vectors cannot show."""

    async def scenario() -> None:
        air, runtime = air_with_all(), OddRuntime()
        async with device(Gear(MemoryDisk(), SystemClock(), AirLink(air), runtime=runtime)) as unit:
            air.desire(assign(1, wanted(ONE, "e1")))
            await air.slot(committed(1))
            runtime.session.logits = np.zeros(shape, np.float32)
            with pytest.raises(PredictionFailedError, match="logits of shape"):
                await unit.inference.predict(X)

    run(scenario)


@pytest.mark.parametrize("label", [-1, 4, 2**70])
def test_feedback_with_a_label_that_is_no_class_is_refused(label: int) -> None:
    """One of them among the captures would make every later training on this device fail."""

    async def scenario() -> None:
        air = air_with_all()
        async with device(Gear(MemoryDisk(), SystemClock(), AirLink(air))) as unit:
            air.desire(assign(1, wanted(ONE, "e1")))
            await air.slot(committed(1))
            answer = await unit.inference.predict(X)
            with pytest.raises(RequestError, match="none of the classes 0 to 3"):
                await unit.inference.feedback(answer.id, label)
            await unit.inference.feedback(answer.id, 3)

    run(scenario)


def test_what_a_failed_attempt_left_does_not_use_up_the_disk_for_the_next() -> None:
    """Version 2 stalls half-way with its space reserved; there is room for version 3 only without that."""

    async def scenario() -> None:
        air = air_with_all()
        disk = MemoryDisk(4 * 1024 * 1024 + 900_000)
        model = TWO.release.variants[0].file.sha256
        del air.retained[TOPICS.blob(model, 1)]
        async with device(Gear(disk, SystemClock(), AirLink(air))):
            air.desire(assign(1, wanted(ONE, "e1")))
            await air.slot(committed(1))
            air.desire(assign(2, wanted(TWO, "e2", timing={"step_timeout_s": 0.5})))
            report = await air.slot(lambda slot: slot.phase is Phase.FAILED)
            assert report.outcome is Outcome.TIMED_OUT
            air.desire(assign(3, wanted(THREE, "e3")))
            report = await air.slot(lambda slot: slot.execution == "e3" and slot.outcome is not None)
            assert (report.outcome, report.reason) == (Outcome.SUCCEEDED, "")

    run(scenario)


def test_an_attempt_goes_on_in_the_space_that_the_one_before_reserved() -> None:
    """There is no room for the model twice, and none is needed."""

    async def scenario() -> None:
        air = air_with_all()
        disk = MemoryDisk(4 * 1024 * 1024 + 400_000)
        model = TWO.release.variants[0].file.sha256
        topic = TOPICS.blob(model, 1)
        chunk = air.retained.pop(topic)
        async with device(Gear(disk, SystemClock(), AirLink(air))):
            air.desire(assign(1, wanted(TWO, "e1", timing={"step_timeout_s": 0.5})))
            assert (await air.slot(lambda slot: slot.phase is Phase.FAILED)).outcome is Outcome.TIMED_OUT
            air.retained[topic] = chunk
            air.desire(assign(2, wanted(TWO, "e1", attempt=2)))
            report = await air.slot(lambda slot: slot.attempt == 2 and slot.outcome is not None)
            assert (report.outcome, report.reason) == (Outcome.SUCCEEDED, "")
            assert report.figures.downloaded_bytes < 100_000, "the rest was there"

    run(scenario)


def test_a_part_begun_anew_does_not_trust_the_chunks_of_the_one_before() -> None:
    """Its file went, its list of chunks stayed; the power fails right after the new file was made."""

    async def scenario() -> None:
        disk, ref = MemoryDisk(), object_ref(bytes(200_000))
        part = PartFile(disk, ref)
        await part.open()
        await part.write(0, b"x" * 61_428)
        await part.sync(b"\x01")
        assert await PartFile(disk, ref).open() == b"\x01"
        await disk.unlink(part.path)
        assert await PartFile(disk, ref).open() == b""
        assert await PartFile(disk, ref).open() == b""

    run(scenario)


def test_the_lock_holds_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number in it is for people; a full disk must not keep the agent from starting."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge_agent.adapters.directory_lock.os.pwrite", full)
    DirectoryLock(tmp_path).release()


def test_invalid_utf8_to_the_local_api_is_answered() -> None:
    """400 with a reason, not a closed connection."""

    async def scenario() -> None:
        async with device(Gear(MemoryDisk(), SystemClock(), AirLink(Air()))) as unit:
            request = HttpRequest("POST", "/v1/feedback", "", {}, b'{"id":"\xff","label":1}')
            status, body = await unit.api._respond(request)
            assert status == 400
            assert "utf-8" in msgspec.json.decode(body)["error"]

    run(scenario)
