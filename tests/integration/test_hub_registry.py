"""Versions, signatures, jobs, and the schema behind them."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select, update

from cloud.errors import ConflictError
from cloud.ports import JobOrder
from cloud.service import registry
from cloud.service.registry import refuse
from cloud.tables import jobs, signing_requests, versions
from tests.samples.job_output import optimizer_output
from tests.scenes.hub_steps import hub, job_runner, job_state, request_id, train_order
from tests.worlds.hub_world import MODEL, World, as_json, run_until_idle


class TestRegistry:
    """From job to signature."""

    def test_a_misspelt_workload_can_be_put_right_until_there_is_a_version(self, tmp_path: Path) -> None:
        """Afterwards the model belongs to its workload."""

        async def scenario(world: World) -> None:
            await world.change(lambda conn, now_ns: registry.add_model(conn, MODEL, "wotch", now_ns))
            await train_order(world)
            await world.train()
            with pytest.raises(ConflictError, match="belongs to workload 'watch'"):
                await world.change(lambda conn, now_ns: registry.add_model(conn, MODEL, "wotch", now_ns))

        hub(tmp_path, scenario)

    def test_a_job_becomes_a_version_with_all_its_objects(self, tmp_path: Path) -> None:
        """Release, card, gate report, and every referenced object in the store."""

        async def scenario(world: World) -> None:
            await train_order(world)
            await world.train()
            row = await world.store.read(lambda conn: conn.execute(select(versions)).one())
            release = as_json(row.release)
            assert (row.version, row.counter, row.state, row.chosen) == (1, 1, "awaiting_signature", "int8")
            assert [one["name"] for one in release["variants"]] == ["int8"]
            for ref in (release["parent"], release["card"], release["companions"]["train_step"]):
                assert len(await world.objects.get(ref["sha256"])) == ref["bytes"]
            request = await world.store.read(lambda conn: conn.execute(select(signing_requests)).one())
            assert request.payload == row.release
            assert request.gate_report["candidates"][0]["reasons"] == ["bytes: not smaller"]

        hub(tmp_path, scenario)

    def test_a_signature_may_come_twice_and_stands(self, tmp_path: Path) -> None:
        """Repeating it is harmless; a refusal after it is told that it comes late."""

        async def scenario(world: World) -> None:
            await train_order(world)
            await world.train()
            request = await request_id(world)
            await world.sign(request)
            await world.sign(request)
            with pytest.raises(ConflictError, match="released already"):
                await world.change(lambda conn, now_ns: refuse(conn, request, "late", "publisher", now_ns))

        hub(tmp_path, scenario)


class TestJobs:
    """Processes come and go, rows stay."""

    def test_a_job_whose_hub_died_is_launched_again(self, tmp_path: Path) -> None:
        """Same job, same directory, one version in the end."""

        async def scenario(world: World) -> None:
            await train_order(world)
            world.launcher.hangs = True
            runner = job_runner(world)
            tasks = [asyncio.create_task(runner.run()), asyncio.create_task(world.outbox.run())]
            async with asyncio.timeout(5):
                while not world.launcher.orders:
                    await asyncio.sleep(0.005)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert await job_state(world) == ("running", 1)
            world.launcher.hangs = False
            await world.train()
            assert await job_state(world) == ("succeeded", 2)
            first, second = world.launcher.orders
            assert first == second
            assert len(await world.store.read(lambda conn: conn.execute(select(versions)).all())) == 1

        hub(tmp_path, scenario)

    @pytest.mark.parametrize(("kills", "state", "launched"), [(2, "succeeded", 3), (9, "failed", 5)])
    def test_a_job_whose_process_is_killed_is_launched_again_for_a_while(
        self, tmp_path: Path, kills: int, state: str, launched: int
    ) -> None:
        """It goes on in its directory; what is killed every time is given up, and says so."""

        async def scenario(world: World) -> None:
            await train_order(world)
            world.launcher.kills = kills
            await world.train()
            row = await world.store.read(lambda conn: conn.execute(select(jobs)).one())
            assert (row.state, len(world.launcher.orders)) == (state, launched)
            assert row.error == ("killed 5 times: job ended with code -9" if state == "failed" else "")
            assert len({order.job for order in world.launcher.orders}) == 1

        hub(tmp_path, scenario)

    def test_files_of_jobs_that_ended_go_after_a_while(self, tmp_path: Path) -> None:
        """Not of those that are under way, however old, nor what no row knows of."""

        async def scenario(world: World) -> None:
            runner = job_runner(world)
            await train_order(world)
            world.launcher.failure = "no data"
            await run_until_idle(world, runner)
            world.launcher.orders.append(JobOrder("of somebody else", "x", b"", {}))
            (ended,) = await world.store.read(lambda conn: conn.execute(select(jobs.c.finished_ns)).scalars().all())
            await runner.discard(ended)
            assert world.launcher.discarded == []
            await world.store.write(lambda conn: conn.execute(update(jobs).values(state="stopping")))
            await runner.discard(ended + 1)
            assert world.launcher.discarded == []
            await world.store.write(lambda conn: conn.execute(update(jobs).values(state="failed")))
            await runner.discard(ended + 1)
            assert world.launcher.discarded == [world.launcher.orders[0].job]

        hub(tmp_path, scenario)

    def test_a_failure_is_kept_with_its_reason(self, tmp_path: Path) -> None:
        """And the next job runs."""

        async def scenario(world: World) -> None:
            await train_order(world)
            world.launcher.failure = "job ended with code 1: no data"
            await run_until_idle(world, job_runner(world))
            row = await world.store.read(lambda conn: conn.execute(select(jobs)).one())
            assert (row.state, row.error) == ("failed", "job ended with code 1: no data")

        hub(tmp_path, scenario)

    @pytest.mark.parametrize(
        ("name", "content", "reason"),
        [
            ("int8.onnx", b"something else", "int8.onnx is not the file"),
            ("result.json", b"{", "result.json of the job cannot be understood"),
        ],
    )
    def test_files_that_are_not_what_they_should_be_make_no_version(
        self, tmp_path: Path, name: str, content: bytes, reason: str
    ) -> None:
        """A digest that does not fit, a result that cannot be read."""

        async def scenario(world: World) -> None:
            await train_order(world)
            world.launcher.files = {"optimize.job": optimizer_output() | {name: content}}
            await run_until_idle(world, job_runner(world))
            row = await world.store.read(lambda conn: conn.execute(select(jobs)).one())
            assert row.state == "failed"
            assert reason in row.error

        hub(tmp_path, scenario)
