"""The aggregator process: the plain result whatever kills it, its report, its refusals, its end."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
import numpy as np
import pytest

from federated.aggregator import EXIT_BAD_SPEC, main, read_spec
from federated.device.bench import Finished
from federated.device.ports import LearningFiles
from federated.flower.convert import ndarrays
from federated.records import from_object, to_object
from federated.running import EXIT_FAILED, EXIT_STOPPED
from federated.spec import Tolerances
from tests.scenes.federated_local import NAMES, STRATEGIES, LocalGrid, play
from tests.servers.plain_broker import BrokerProcess
from tests.worlds.federated_world import CONFIG, AggregatorProcess, Device, fleet, write_graphs
from wire.assignment import FederatedPolicy
from wire.codec import decode, encode
from wire.federated import Reply
from wire.identity import Broker
from wire.release import object_ref

ROUNDS = 4
PATIENT = Tolerances(resend_s=1)
QUICK = Tolerances(gather_s=0.5, offline_grace_s=0.3, resend_s=0.3, step_timeout_s=20)


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    """One broker for all runs."""
    process = BrokerProcess()
    yield process
    process.kill()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> LearningFiles:
    """The model's graphs."""
    return write_graphs(tmp_path_factory.mktemp("graphs"))


def aggregator(path: Path, broker: BrokerProcess, strategy: str = "FedAvg", **changes: object) -> AggregatorProcess:
    """An aggregator for all devices."""
    fields = {
        "strategy": strategy,
        "strategy_kwargs": STRATEGIES.get(strategy, {}),
        "rounds": ROUNDS,
        "tolerances": PATIENT,
    }
    return AggregatorProcess(path, broker.address, names=NAMES, **{**fields, **changes})


def test_a_run_may_name_a_large_fleet(tmp_path: Path) -> None:
    """Every device that may take part stands in the specification, with its labels."""
    names = tuple(f"watch-of-the-northern-clinic-{number:06}" for number in range(20_000))
    spec, _, _ = read_spec(AggregatorProcess(tmp_path, Broker(host="-", port=1), names=names).path)
    assert len(spec.devices) == len(names)


Devices = Mapping[str, Device]


def moments(seed: str, count: int) -> list[int]:
    """When to interrupt a run, as numbers of tasks that devices have done: of 32, mid-step for the most part."""
    return sorted(random.Random(seed).sample(range(1, 28), count))


async def reached(devices: Devices, tasks: int) -> None:
    """Return when the devices have done so many tasks."""
    while sum(len(device.host.trained) for device in devices.values()) < tasks:
        await asyncio.sleep(0.002)


async def killed_sometimes(run: AggregatorProcess, devices: Devices, when: list[int]) -> None:
    """Start it, SIGKILL it at these moments, and let it finish."""
    for moment in when:
        await run.start()
        await reached(devices, moment)
        await run.kill()
    assert await run.run_here() == 0


async def stopped_sometimes(run: AggregatorProcess, devices: Devices, when: list[int]) -> None:
    """The same without the cost of new processes: whatever it had in memory is gone all the same."""
    for moment in when:
        stop = asyncio.Event()
        running = asyncio.create_task(run.run_here(stop))
        await reached(devices, moment)
        stop.set()
        assert await running == EXIT_STOPPED
    assert await run.run_here() == 0


def assert_plain_result(run: AggregatorProcess, files: LearningFiles, strategy: str) -> None:
    """The final parameters are bit for bit those of the strategy's own loop in one process."""
    final = run.final()
    for name, array in ndarrays(play(LocalGrid(files), strategy, ROUNDS).arrays).items():
        np.testing.assert_array_equal(final[name], array.astype(np.float32))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_interrupted_run_ends_with_the_plain_result(
    strategy: str, tmp_path: Path, broker: BrokerProcess, files: LearningFiles
) -> None:
    """Stopped at four seeded moments and started anew, every strategy ends where the plain one does."""

    async def story() -> AggregatorProcess:
        run = aggregator(tmp_path, broker, strategy)
        async with fleet(NAMES, broker.address, files) as devices:
            await stopped_sometimes(run, devices, moments(strategy, 4))
        return run

    assert_plain_result(asyncio.run(story()), files, strategy)


def test_killed_process_ends_with_the_plain_result(tmp_path: Path, broker: BrokerProcess, files: LearningFiles) -> None:
    """Three SIGKILLs at seeded moments, with a strategy that has two kinds of memory."""

    async def story() -> AggregatorProcess:
        run = aggregator(tmp_path, broker, "FedAdam")
        async with fleet(NAMES, broker.address, files) as devices:
            await killed_sometimes(run, devices, moments("killed", 3))
        return run

    assert_plain_result(asyncio.run(story()), files, "FedAdam")


def test_sampling_is_repeated_after_a_stop(tmp_path: Path, broker: BrokerProcess, files: LearningFiles) -> None:
    """A strategy that draws its devices draws the same ones again, whatever happened."""

    async def story() -> None:
        half = {"fraction_train": 0.5}
        smooth, rough = (aggregator(tmp_path / name, broker, strategy_kwargs=half) for name in ("smooth", "rough"))
        for run, when in ((smooth, []), (rough, [5, 9, 15])):
            async with fleet(NAMES, broker.address, files) as devices:
                await stopped_sometimes(run, devices, when)
        for name, array in smooth.final().items():
            np.testing.assert_array_equal(rough.final()[name], array)
        assert {one.clients for one in rough.result().history} == {2}

    asyncio.run(story())


def deaf_to_training(device: Device) -> Callable[[bytes], None]:
    """Let a device overlook training tasks; returns its sound ear."""
    deliver: Callable[[bytes], None] = device.on_fed
    device.on_fed = lambda payload: None if b'"kind":"train"' in payload else deliver(payload)
    return deliver


def test_replies_of_before_the_kill_are_kept(tmp_path: Path, broker: BrokerProcess, files: LearningFiles) -> None:
    """Killed while it waits for one slow device, it resumes the same round and asks only that one."""

    async def story() -> None:
        run = aggregator(tmp_path, broker, tolerances=msgspec.structs.replace(QUICK, offline_grace_s=20))
        async with fleet(NAMES, broker.address, files) as devices:
            deliver = deaf_to_training(devices["dan"])
            await run.start()
            await run.until("evaluation")
            while any(devices[name].host.updates_accepted < 1 for name in NAMES[:3]):
                await asyncio.sleep(0.02)
            await run.kill()
            devices["dan"].on_fed = deliver
            assert await run.run_here() == 0
            done = Counter(task for device in devices.values() for task in device.host.trained)
        assert set(done.values()) == {1}
        assert sum(".train-" in task for task in done) == ROUNDS * len(NAMES)

    asyncio.run(story())


def test_a_run_reports_what_it_measured(tmp_path: Path, broker: BrokerProcess, files: LearningFiles) -> None:
    """Progress lines, result file, counts on the devices, and nothing left on the broker or in the devices."""

    async def story() -> None:
        run = aggregator(tmp_path, broker)
        async with fleet(NAMES, broker.address, files) as devices:
            assert await run.run_here() == 0
            async with asyncio.timeout(5):
                while any(device.client.busy or device.host.remembered for device in devices.values()):
                    await asyncio.sleep(0.01)
            assert [device.host.updates_accepted for device in devices.values()] == [ROUNDS] * 4
            assert all(not device.host.remembered and not device.client.busy for device in devices.values())
        result = run.result()
        rounds = [event for event in run.events if event["event"] == "round"]
        assert [one["round"] for one in rounds] == [1, 2, 3, 4]
        assert [one["eval_acc"] is None for one in rounds] == [True, False, True, False]
        assert all(one["bytes_down"] > 500 and one["bytes_up"] > 500 for one in rounds)  # type: ignore[operator]
        assert run.events[-1]["event"] == "done"
        ada = result.devices["ada"]
        assert (ada.examples, ada.rounds_trained, ada.labels) == (12, ROUNDS, {"arm": "left"})
        assert ada.accuracy_before is not None
        assert ada.accuracy_after is not None
        assert ada.accuracy_after > ada.accuracy_before + 0.3
        assert result.totals.failures == 0

    asyncio.run(story())


def poison(device: Device, change: Callable[[Reply, bytes], tuple[Reply, bytes]]) -> None:
    """Let this device change its trained answers before they leave."""
    sound = device.client._bench

    class Poisoned:
        let_go = sound.let_go

        async def perform(self, task, stop):  # type: ignore[no-untyped-def]
            answer = await sound.perform(task, stop)
            if not answer.arrays:
                return answer
            reply, arrays = change(decode(answer.reply, Reply), answer.arrays)
            return Finished(True, encode(reply), arrays)

    device.client._bench = Poisoned()


def with_arrays(change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Callable[..., tuple[Reply, bytes]]:
    """A poison that changes the arrays and announces them honestly."""

    def poisoned(reply: Reply, arrays: bytes) -> tuple[Reply, bytes]:
        data = to_object({"arrays": change(from_object(arrays, reply.records)["arrays"])})
        return msgspec.structs.replace(reply, arrays=object_ref(data)), data

    return poisoned


def test_a_poisoned_update_is_refused_and_the_round_goes_on(
    tmp_path: Path, broker: BrokerProcess, files: LearningFiles
) -> None:
    """NaN from one device, a wrong shape from another: both are named, the rest make the round."""

    async def story() -> None:
        run = aggregator(tmp_path, broker, rounds=1)
        async with fleet(NAMES, broker.address, files) as devices:
            poison(devices["ada"], with_arrays(lambda arrays: {**arrays, "b": arrays["b"] * np.float32("nan")}))
            poison(devices["bob"], with_arrays(lambda arrays: {**arrays, "w": arrays["w"][:-1]}))
            assert await run.run_here() == 0
            assert devices["ada"].host.updates_accepted == 0
        (one,) = run.result().history
        assert one.clients == 2
        reasons = {failure.device: failure.reason for failure in one.failures}
        assert "NaN" in reasons["ada"]
        assert "wrong shape" in reasons["bob"]
        assert all(np.isfinite(array).all() for array in run.final().values())

    asyncio.run(story())


def test_devices_that_refuse_or_vanish_do_not_stop_a_run(
    tmp_path: Path, broker: BrokerProcess, files: LearningFiles
) -> None:
    """One opts out by policy, one goes offline after the first evaluation: two devices make the rounds."""

    async def story() -> None:
        run = aggregator(tmp_path, broker, rounds=2, tolerances=QUICK)
        async with fleet(NAMES, broker.address, files) as devices:
            devices["ada"].host.allowed = FederatedPolicy(enabled=False)
            await run.start()
            await run.until("evaluation")
            await devices["dan"].stop()
            assert await run.finish() == 0
            assert devices["ada"].host.trained == []
        history = run.result().history
        assert history[-1].clients == 2
        assert any("policy" in failure.reason for failure in history[0].failures)
        assert run.result().devices["ada"].accuracy_after is None

    asyncio.run(story())


def test_a_run_without_quorum_fails_with_its_reason(
    tmp_path: Path, broker: BrokerProcess, files: LearningFiles
) -> None:
    """All devices refuse: attempts are used up, nothing is written, and what they said is in the reason."""

    async def story() -> None:
        run = aggregator(tmp_path, broker, tolerances=QUICK)
        async with fleet(NAMES, broker.address, files) as devices:
            for device in devices.values():
                device.host.runs = ("other", 1)
            assert await run.run_here() == EXIT_FAILED
        assert run.events[-1]["event"] == "failed"
        said = str(run.events[-1]["reason"])
        assert said.startswith("too few answers in round 0")
        assert said.endswith("; most often: toy version 1 is not what runs here")
        assert not (tmp_path / "final.safetensors").exists()

    asyncio.run(story())


def test_it_ends_when_its_parent_dies(tmp_path: Path, broker: BrokerProcess, files: LearningFiles) -> None:
    """A closed stdin ends a waiting run at once, with the code that says: start me again."""

    async def story() -> None:
        run = aggregator(tmp_path, broker)
        await run.start()
        await run.until("started")
        assert run.process.stdin is not None
        run.process.stdin.close()
        assert await asyncio.wait_for(run.finish(), 20) == EXIT_STOPPED

    asyncio.run(story())


def test_it_survives_a_broker_that_forgets_everything(tmp_path: Path, files: LearningFiles) -> None:
    """The broker is killed mid-round and comes back empty: chunks that a device still needs are published again."""

    async def story() -> None:
        broker = BrokerProcess()
        run = aggregator(tmp_path, broker, tolerances=msgspec.structs.replace(QUICK, gather_s=20, offline_grace_s=20))
        async with fleet(NAMES, broker.address, files) as devices:
            deliver = deaf_to_training(devices["dan"])
            running = asyncio.create_task(run.run_here())
            while any(devices[name].host.updates_accepted < 1 for name in NAMES[:3]):
                await asyncio.sleep(0.02)
            broker.kill()
            broker.start()
            devices["dan"].on_fed = deliver
            assert await running == 0
        broker.kill()
        assert [one.clients for one in run.result().history] == [4] * ROUNDS

    asyncio.run(story())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"strategy": "FedMagic"}, "no strategy 'FedMagic'"),
        ({"strategy_kwargs": {"beta_9": 1}}, "beta_9"),
        ({"order": ("w",)}, "does not hold exactly the parameters"),
        ({"train_config": {**CONFIG, "extra": [1]}}, "train_config"),
    ],
)
def test_a_bad_specification_is_refused(
    changes: dict[str, object], reason: str, tmp_path: Path, broker: BrokerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and a reason that names the fault, before anything is published."""
    run = aggregator(tmp_path, broker, **{"strategy_kwargs": {}, **changes})
    assert main([str(run.path)]) == EXIT_BAD_SPEC
    assert reason in json.loads(capsys.readouterr().out.splitlines()[-1])["reason"]
