"""A federated run through the hub: the aggregator's specification, rounds, the verdict, the version that follows."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from cloud.errors import ConflictError
from cloud.service import federated_runs as service
from cloud.service import jobs as job_service
from cloud.service import registry
from cloud.service.blobs import Blobs
from cloud.service.federated_runs import Access, FederatedJobs, NewRun
from cloud.service.jobs import Jobs
from cloud.service.optimize_jobs import OptimizeJobs
from cloud.tables import federated_rounds, federated_runs, jobs, versions
from federated.core.report import DeviceResult, Ended, Result, RoundReport, Totals
from federated.spec import Login, Spec
from optimize.spec import DeriveSpec
from tests.worlds.hub_world import MODEL, ROOT, World, as_json, run_until_idle
from wire.codec import decode, encode

LEARNERS = {"p01-left": "left", "p01-right": "right"}
REQUEST = {
    "strategy": "FedAvgM",
    "strategy_args": {"server_momentum": 0.5},
    "rounds": 2,
    "evaluate_every": 1,
    "train": {"local-epochs": 2, "lr": 0.02, "momentum": 0.9},
    "seed": 3,
    "non_inferiority": {"selector": {"arm": "right"}, "margin": 0.1},
    "tolerances": {"quorum": 5, "step_timeout_s": 30},
}


def hub(tmp_path: Path, scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario on a hub with version 1 released, two learners and one device that must not learn."""

    async def run() -> None:
        async with World(tmp_path) as world:
            for name, arm in LEARNERS.items():
                await world.enrol(name, federated=True, arm=arm)
            await world.enrol("p08-left", federated=False, arm="left")

            def order(conn: Any, now_ns: int) -> Any:
                registry.add_model(conn, MODEL, "watch", now_ns)
                return job_service.add(conn, "train-1", "train", MODEL, {"workload": "watch", "seed": 0}, now_ns)

            await world.change(order)
            await world.train()
            await world.sign(str((await one(world, registry.signing_requests)).id))
            new = NewRun("run-1", "job-1", MODEL, 1, {}, REQUEST)
            await world.change(lambda conn, now_ns: service.create(conn, new, "test", now_ns))
            await scenario(world)

    asyncio.run(run())


async def one(world: World, table: Any) -> Any:
    """The newest row of a table."""
    return (await world.store.read(lambda conn: conn.execute(select(table)).all()))[-1]


def aggregator_output(right_after: float) -> dict[str, bytes]:
    """What a finished aggregator leaves behind."""
    devices = {
        "p01-left": DeviceResult(labels={"arm": "left"}, examples=20, accuracy_before=0.3, accuracy_after=0.8),
        "p01-right": DeviceResult(
            labels={"arm": "right"}, examples=20, accuracy_before=0.95, accuracy_after=right_after
        ),
    }
    result = Result(
        run="run-1",
        model=MODEL,
        version=1,
        strategy="FedAvgM",
        rounds=2,
        parameters="final.safetensors",
        devices=devices,
        totals=Totals(bytes_down=10, bytes_up=20, seconds=1.0, failures=0),
        history=(),
    )
    return {"result.json": encode(result), "final.safetensors": b"learnt parameters"}


async def finish(world: World, right_after: float) -> None:
    """Run the aggregator (two rounds, the first reported twice, as after a resume) and whatever follows."""
    rounds = [RoundReport(round=number, clients=2, eval_acc=0.5, bytes_down=7, bytes_up=9) for number in (1, 1, 2)]
    world.launcher.lines = [encode(line) for line in (*rounds, Ended(event="done", rounds=2))] + [b"not json"]
    world.launcher.files["federated.aggregator"] = aggregator_output(right_after)
    await run_until_idle(world, runner(world))


def runner(world: World) -> Jobs:
    """What launches and follows jobs of every kind."""
    access = Access(lambda: world.control.endpoint, lambda: Login(password="secret"), ROOT)
    optimizing = OptimizeJobs(world.store, world.objects, world.launcher, world.clock, world.ids)
    learning = FederatedJobs(world.store, world.objects, world.launcher, (world.clock, world.ids), access)
    kinds = {"train": optimizing, "derive": optimizing, "federated": learning}
    return Jobs(world.store, world.outbox, world.launcher, world.clock, kinds)


def test_a_result_that_is_better_becomes_the_next_version(tmp_path: Path) -> None:
    """Only eligible devices take part; rounds are kept once; what was learnt is derived from; lineage is whole."""

    async def scenario(world: World) -> None:
        await finish(world, right_after=0.9)
        order = next(order for order in world.launcher.orders if order.module == "federated.aggregator")
        spec = decode(order.spec, Spec)
        assert [device.name for device in spec.devices] == sorted(LEARNERS)
        assert spec.strategy_kwargs == {"server_momentum": 0.5}
        assert spec.train_config == {"local-epochs": 2, "lr": 0.02, "momentum": 0.9, "seed": 3}
        assert (spec.tolerances.quorum, spec.tolerances.step_timeout_s, spec.tolerances.attempts) == (5, 30.0, 3)
        assert order.files == {"starting.safetensors": b"parameters"}
        rounds = await world.store.read(lambda conn: conn.execute(select(federated_rounds)).all())
        assert [(row.round, row.bytes_up) for row in rounds] == [(1, 9), (2, 9)]
        run = await one(world, federated_runs)
        assert (run.state, run.result_version) == ("succeeded", 2)
        derive = world.launcher.orders[-1]
        assert decode(derive.spec, DeriveSpec).parameters.endswith("/parent.safetensors")
        assert derive.files["parent.safetensors"] == b"learnt parameters"
        version = await one(world, versions)
        assert (version.version, version.counter, version.state) == (2, 2, "awaiting_signature")
        lineage = as_json(version.card)["lineage"]
        assert (lineage["parent_version"], lineage["federated_run"]) == (1, "run-1")
        request = await one(world, registry.signing_requests)
        assert request.gate_report["federated"]["passed"] is True

    hub(tmp_path, scenario)


def test_a_group_that_loses_too_much_stops_the_run(tmp_path: Path) -> None:
    """No version, and the reason names the group."""

    async def scenario(world: World) -> None:
        await finish(world, right_after=0.7)
        run = await one(world, federated_runs)
        assert run.state == "refused"
        assert "arm=right" in run.reason
        assert (await one(world, versions)).version == 1

    hub(tmp_path, scenario)


def test_a_failed_aggregator_fails_its_run_with_the_reason(tmp_path: Path) -> None:
    """The operator reads it at the run."""

    async def scenario(world: World) -> None:
        world.launcher.failure = "too few answers"
        await finish(world, right_after=0.9)
        run = await one(world, federated_runs)
        assert (run.state, run.reason) == ("failed", "too few answers")

    hub(tmp_path, scenario)


@pytest.mark.parametrize("begun", [True, False])
def test_a_run_that_is_stopped_ends_its_aggregator_and_keeps_nothing(tmp_path: Path, begun: bool) -> None:
    """Whether it was launched or still waits; the next run of the model finds the place free."""

    async def scenario(world: World) -> None:
        world.launcher.hangs, launched = True, len(world.launcher.orders)
        life = asyncio.create_task(run_until_idle(world, runner(world))) if begun else None
        while life is not None and (await one(world, jobs)).state != "running":
            await asyncio.sleep(0.005)
        effects = await world.change(lambda conn, now_ns: service.stop(conn, "run-1", "me", now_ns))
        assert ((await one(world, jobs)).state, (await one(world, federated_runs)).state) == ("stopping", "running")
        world.outbox.post(effects)
        await (life or run_until_idle(world, runner(world)))
        job, run = await one(world, jobs), await one(world, federated_runs)
        assert (job.state, job.error) == (run.state, run.reason) == ("failed", "stopped by me")
        assert len(world.launcher.orders) == launched + begun
        with pytest.raises(ConflictError, match="is failed: only one in which devices learn"):
            await world.change(lambda conn, now_ns: service.stop(conn, "run-1", "me", now_ns))
        world.launcher.hangs, new = False, NewRun("run-2", "job-2", MODEL, 1, {}, REQUEST)
        await world.change(lambda conn, now_ns: service.create(conn, new, "test", now_ns))
        await finish(world, right_after=0.95)
        assert (await one(world, federated_runs)).state == "succeeded"

    hub(tmp_path, scenario)


def test_a_run_that_waits_for_another_one_is_stopped_at_once(tmp_path: Path) -> None:
    """The other one goes on: it has the aggregator's place, and nobody said a word about it."""

    async def scenario(world: World) -> None:
        world.launcher.hangs = True
        second = dict((await one(world, federated_runs))._mapping) | {"id": "run-2"}

        def order(conn: Any, now_ns: int) -> Any:
            conn.execute(insert(federated_runs).values(second))
            return job_service.add(conn, "job-2", "federated", MODEL, {"run": "run-2"}, now_ns)

        life = asyncio.create_task(run_until_idle(world, runner(world)))
        while (await one(world, jobs)).state != "running":
            await asyncio.sleep(0.005)
        world.outbox.post(await world.change(order))
        for run, others in (("run-2", "running"), ("run-1", "failed")):
            stop = partial(service.stop, run=run, actor="me")
            world.outbox.post(await world.change(lambda conn, now_ns, stop=stop: stop(conn, now_ns=now_ns)))
            async with asyncio.timeout(10):
                while (await states(world))[run] != "failed":
                    await asyncio.sleep(0.005)
            assert (await states(world))["run-1" if run == "run-2" else "run-2"] == others
        await life

    hub(tmp_path, scenario)


async def states(world: World) -> dict[str, str]:
    """Run -> how it stands."""
    query = select(federated_runs.c.id, federated_runs.c.state)
    return {row.id: row.state for row in await world.store.read(lambda conn: conn.execute(query).all())}


@pytest.mark.parametrize("over", [False, True])
def test_the_graphs_are_on_the_broker_while_the_run_lasts(tmp_path: Path, over: bool) -> None:
    """Devices fetch train-step, eval and parameters; afterwards the chunks are cleared."""

    async def scenario(world: World) -> None:
        blobs = Blobs(world.store, world.objects, world.link, ROOT)
        await blobs.sync()
        companions = as_json((await one(world, versions)).release)["companions"]
        topics = {ROOT.blob(companions[name]["sha256"], 0) for name in ("train_step", "eval", "parameters")}
        assert topics < set(world.link.retained)
        if over:
            await finish(world, right_after=0.7)
            await blobs.sync()
            assert world.link.retained == {}

    hub(tmp_path, scenario)
