"""The agent's services over light ports: from a desired document to a model that answers, and what is said of it."""

import asyncio
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from edge_agent.core.pointer import Record, parse
from edge_agent.errors import ModelError, NoModelError
from edge_agent.service import learning
from edge_agent.service.durable import STATE
from federated.device.ports import HostError
from simulator.core.clock import VirtualClock
from simulator.core.loop import VirtualLoop
from simulator.core.power import one_outcome
from simulator.core.rng import Rng
from simulator.fakes.runtime import LightRuntime
from simulator.memory_disk import MemoryDisk
from tests.scenes.agent_scenes import ONE, TWO, air_with, failed, gear, run
from tests.worlds.agent_world import DEVICE, SLOT, TOPICS, Air, AirLink, Gear, assign, committed, device, ship, wanted
from wire.adapters.system import SystemClock
from wire.messages import Outcome, Phase, Telemetry
from wire.ports import SECOND
from wire.release import object_ref


def test_a_release_is_installed_proven_and_committed_and_can_be_rolled_back() -> None:
    """One, then two, then one again as a new and higher assignment."""

    async def scenario() -> None:
        air = air_with()
        async with device(gear(air)) as unit:
            air.desire(assign(1, wanted(ONE, "e1")))
            report = await air.slot(committed(1))
            assert (report.outcome, report.execution, report.golden is not None) == (Outcome.SUCCEEDED, "e1", True)
            assert report.figures.downloaded_bytes > 300_000
            assert (await unit.inference.predict(np.zeros(4, np.float32))).version == 1
            air.desire(assign(2, wanted(TWO, "e2")))
            report = await air.slot(committed(2))
            assert report.previous is not None
            assert report.previous.version == 1
            air.desire(assign(3, wanted(ONE, "e3")))
            report = await air.slot(committed(1))
            assert report.figures.downloaded_bytes == 0, "it was still there"
            assert (await unit.inference.predict(np.zeros(4, np.float32))).version == 1

    run(scenario)


def test_no_prediction_is_dropped_while_models_are_swapped() -> None:
    """Predictions run all the time, through two swaps."""

    async def scenario() -> None:
        air = air_with()
        async with device(gear(air)) as unit:
            air.desire(assign(1, wanted(ONE, "e1")))
            await air.slot(committed(1))
            answered: list[int] = []

            async def application() -> None:
                while True:
                    answered.append((await unit.inference.predict(np.zeros(4, np.float32))).version)

            playing = asyncio.create_task(application())
            air.desire(assign(2, wanted(TWO, "e2")))
            await air.slot(committed(2))
            air.desire(assign(3, wanted(ONE, "e3")))
            await air.slot(committed(1))
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
            assert set(answered) == {1, 2}

    run(scenario)


class Flaky(LightRuntime):
    """A runtime whose model of this path fails on predictions."""

    bad = ""

    async def load(self, path: str):  # type: ignore[no-untyped-def]
        """Load it."""
        session = await super().load(path)
        if self.bad and self.bad in path:

            class Broken:
                async def predict(self, x: object) -> object:
                    raise ModelError("cannot compute")

            return Broken()
        return session


def test_a_trial_that_fails_on_an_input_is_rolled_back_and_the_application_still_gets_its_answer() -> None:
    """The model before it stands in."""

    async def scenario() -> None:
        air = air_with()
        disk = MemoryDisk()
        runtime = Flaky(disk, SystemClock())
        runtime.bad = TWO.release.variants[0].file.sha256
        async with device(replace(gear(air, disk), runtime=runtime)) as unit:
            air.desire(assign(1, wanted(ONE, "e1")))
            await air.slot(committed(1))
            air.desire(assign(2, wanted(TWO, "e2", timing={"health_window_s": 30.0})))
            while unit.inference.live(SLOT).installed.version != 2:
                await asyncio.sleep(0)
            assert (await unit.inference.predict(np.zeros(4, np.float32))).version == 1
            report = await air.slot(failed)
            assert (report.outcome, report.reason) == (Outcome.ROLLED_BACK, "prediction failed: cannot compute")
            assert report.current is not None
            assert (await unit.inference.predict(np.zeros(4, np.float32))).version == 1

    run(scenario)


def test_a_newer_assignment_supersedes_a_running_installation() -> None:
    """The files of two never come; one is installed all the same."""
    loop = VirtualLoop(Rng(1))

    async def scenario() -> None:
        air = air_with()
        air.drop(TWO.release.variants[0].file.sha256)
        async with device(Gear(MemoryDisk(), VirtualClock(loop), AirLink(air))) as unit:
            air.desire(assign(1, wanted(TWO, "e1")))
            while unit.reconciler.record.slot(SLOT).phase is not Phase.FETCHING:
                await asyncio.sleep(0.01)
            air.desire(assign(2, wanted(ONE, "e2")))
            assert (await air.slot(committed(1))).execution == "e2"

    loop.run(scenario())


def test_an_execution_that_gets_nothing_ends_as_timed_out_with_its_reason() -> None:
    """By its step's time while chunks stay away, and by its total time whatever happens."""
    loop = VirtualLoop(Rng(1))

    async def scenario() -> None:
        air = air_with()
        air.drop(TWO.release.variants[0].file.sha256)
        async with device(Gear(MemoryDisk(), VirtualClock(loop), AirLink(air))):
            air.desire(assign(1, wanted(TWO, "e1", timing={"step_timeout_s": 5.0})))
            report = await air.slot(failed)
            assert (report.outcome, "nothing new for 5 s" in report.reason) == (Outcome.TIMED_OUT, True)
            air.desire(assign(2, wanted(TWO, "e2", timing={"total_timeout_s": 4.0})))
            report = await air.slot(lambda slot: failed(slot) and slot.execution == "e2")
            assert (report.outcome, report.reason) == (Outcome.TIMED_OUT, "still fetching after 4 s")

    loop.run(scenario())


def test_altered_chunks_never_become_an_object() -> None:
    """A chunk that does not match its digest is as good as none."""

    async def scenario() -> None:
        air = air_with()
        sha256 = TWO.release.variants[0].file.sha256
        topic = TOPICS.blob(sha256, 1)
        good = air.retained[topic]
        air.retained[topic] = good[:-1] + bytes([good[-1] ^ 1])
        disk = MemoryDisk()
        async with device(gear(air, disk)):
            air.desire(assign(1, wanted(TWO, "e1", timing={"step_timeout_s": 0.5})))
            report = await air.slot(failed)
            assert "does not match its digest" in report.reason
            assert sha256 not in await disk.list("objects")
            air.retained[topic] = good
            air.desire(assign(2, wanted(TWO, "e2")))
            report = await air.slot(committed(2))
            assert report.figures.downloaded_bytes < len(TWO.files[sha256]), "what was good before is not fetched twice"

    run(scenario)


def test_an_object_without_chunk_digests_is_judged_as_a_whole_and_fetched_anew() -> None:
    """The release document, whose reference is short: on the disk and in memory."""

    async def scenario() -> None:
        air = air_with()
        topic = TOPICS.blob(TWO.ref.sha256, 0)
        good = air.retained[topic]
        air.retained[topic] = good[:-1] + bytes([good[-1] ^ 1])
        disk = MemoryDisk()
        async with device(gear(air, disk)) as unit:
            air.desire(assign(1, wanted(TWO, "e1")))
            report = await air.slot(failed)
            assert report.outcome is Outcome.REJECTED
            assert "what arrived has digest" in report.reason
            assert await disk.list("objects") == ()
            with pytest.raises(HostError, match="another digest"):
                await unit.host.fetch(TWO.ref)
            air.retained[topic] = good
            air.desire(assign(2, wanted(TWO, "e2")))
            await air.slot(committed(2))

    run(scenario)


def test_no_room_is_said_and_changes_nothing() -> None:
    """The disk is too small for the model."""

    async def scenario() -> None:
        air = air_with()
        async with device(gear(air, MemoryDisk(4 * 1024 * 1024 + 100_000))):
            air.desire(assign(1, wanted(ONE, "e1")))
            report = await air.slot(failed)
            assert (report.outcome, "to spare" in report.reason) == (Outcome.FAILED_NO_CHANGE, True)

    run(scenario)


def test_reports_are_repeated_until_the_hub_has_them() -> None:
    """No receipt: the same state comes again with a higher number, ever more seldom; with a receipt it rests."""
    loop = VirtualLoop(Rng(1))
    clock = VirtualClock(loop)

    async def scenario() -> None:
        air = Air()
        air.receipts = False
        air.cloud.serve, air.cloud.now_ns = lambda ask: None, None  # what is learned would be reported, too
        async with device(Gear(MemoryDisk(), clock, AirLink(air))):
            await clock.sleep(30 * SECOND)
            sent = [report.seq - (1 << 32) for report in air.reports]
            assert sent == [1, 2, 3, 4], "at 0, 4, 12 and 28 s"
            air.receipts = True
            await clock.sleep(600 * SECOND)
            assert len(air.reports) == 5

    loop.run(scenario())


def test_telemetry_counts_what_the_application_did() -> None:
    """Predictions, feedback and hits, cumulative."""

    async def scenario() -> None:
        air = air_with()
        async with device(gear(air)) as unit:
            air.desire(assign(1, wanted(ONE, "e1")))
            await air.slot(committed(1))
            for label in (1, 0, 1):
                answer = await unit.inference.predict(np.zeros(4, np.float32))
                await unit.inference.feedback(answer.id, label)
            topic = TOPICS.up(DEVICE, "telemetry")

            def stats() -> list[Telemetry]:
                return [msgspec.json.decode(data, type=Telemetry) for name, data in air.published if name == topic]

            async with asyncio.timeout(5):
                while not any(one.stats and one.stats[0].feedback == 3 for one in stats()):
                    air._news.clear()
                    await air._news.wait()
            last = stats()[-1].stats[0]
            assert (last.predictions, last.feedback, last.correct) == (3, 3, 2)

    run(scenario)


def test_without_a_model_the_application_is_told_so() -> None:
    """Before the first installation."""

    async def scenario() -> None:
        async with device(gear(Air())) as unit:
            with pytest.raises(NoModelError, match="no model is installed yet"):
                await unit.inference.predict(np.zeros(4, np.float32))

    run(scenario)


def test_an_update_counts_once_though_a_late_copy_of_its_task_is_done_again() -> None:
    """Seed 611: overtaken on its way, the copy came after the cloud had confirmed the update; or after a restart."""

    async def scenario() -> None:
        air, disk = air_with(), MemoryDisk()
        for start in range(2):
            async with device(gear(air, disk)) as unit:
                for task in ("task-1", f"task-of-start-{start}", "task-1"):
                    await unit.host.remember(task, b"reply", b"arrays")
                    await unit.host.forget(task, update_accepted=True)
                assert unit.reconciler.record.updates_accepted == 2 + start

    run(scenario)


@pytest.mark.parametrize("seed", range(8))
def test_an_update_is_counted_before_its_answer_is_dropped(seed: int) -> None:
    """Whatever a power cut leaves: either the cloud's word finds the answer again, or it was counted."""

    class Disk(MemoryDisk):
        async def unlink(self, path: str) -> None:
            if path.startswith(f"{learning.FOLDER}/"):
                left.append(parse(one_outcome(self.unsettled(), Rng(seed))[STATE].data))
            await super().unlink(path)

    left: list[Record] = []

    async def scenario() -> None:
        async with device(gear(air_with(), Disk())) as unit:
            await unit.host.remember("task-1", b"reply", b"arrays")
            await unit.host.forget("task-1", update_accepted=True)

    run(scenario)
    assert [record.updates_accepted for record in left] == [1]


def test_federated_learning_gets_the_committed_release_and_remembers_answers_over_a_restart() -> None:
    """The host: policy, companions as paths, memory of answers, the count of accepted updates."""

    async def scenario() -> None:
        air, disk = air_with(), MemoryDisk()
        async with device(gear(air, disk)) as unit:
            assert not unit.host.policy().enabled
            air.desire(assign(1, wanted(ONE, "e1")))
            await air.slot(committed(1))
            assert unit.host.policy().enabled
            assert await unit.host.learning("watch", 2) is None
            files = await unit.host.learning("watch", 1)
            assert files is not None
            assert await disk.read(files.train_step) == b"train_step of 1"
            card = object_ref(ONE.files[ONE.release.card.sha256])
            assert await unit.host.fetch(card) == b"card of 1"
            await unit.host.remember("task-1", b"reply", b"arrays")
        async with device(gear(air, disk)) as unit:
            assert await unit.host.recall("task-1") == (b"reply", b"arrays")
            await unit.host.forget("task-1", update_accepted=True)
            await unit.host.forget("task-1", update_accepted=True)
            assert await unit.host.recall("task-1") is None
            async with asyncio.timeout(10):
                while unit.reconciler.record.updates_accepted != 1:
                    await asyncio.sleep(0.005)

    run(scenario)


def test_garbage_goes_and_what_is_needed_stays() -> None:
    """After three versions: current and previous with their companions, and nothing else."""

    async def scenario() -> None:
        three = ship(3)
        air, disk = air_with(ONE, TWO, three), MemoryDisk()
        async with device(gear(air, disk)) as unit:
            for number, shipped in enumerate((ONE, TWO, three), start=1):
                air.desire(assign(number, wanted(shipped, f"e{number}")))
                await air.slot(committed(number))
                await unit.host.learning("watch", number)
            names = set(await disk.list("objects"))
            assert not names & set(ONE.files) - set(TWO.files) - set(three.files)
            for shipped in (TWO, three):
                variant, companions = shipped.release.variants[0], shipped.release.companions
                assert companions.train_step is not None
                assert {variant.file.sha256, shipped.ref.sha256, companions.train_step.sha256} <= names

    run(scenario)
