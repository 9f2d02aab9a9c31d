"""Everything that a plan may say, on real SQLite; and counters that always equal a count from scratch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import delete, insert, select, update

from cloud.api.paging import Window
from cloud.api.rollout_views import member_views, rollout_view
from cloud.core.gates import Gate
from cloud.core.rollout import Command, Plan, Wave
from cloud.core.rollout.plan import Disruption, Rate, Retry
from cloud.core.rollout.windows import Window as Hours
from cloud.errors import ConflictError, InvalidError
from cloud.service import holds
from cloud.service import rollouts as service
from cloud.service.rollouts import NewRollout
from cloud.service.rollouts.ledger import recount
from cloud.tables import members, rollout_waves, rollouts, slots, stats, versions
from tests.scenes.hub_steps import fleet, hub, quiet, state, waiting
from tests.worlds.hub_world import MODEL, World
from wire.messages import Outcome

SECOND = 10**9
ALL = (Wave(percent=100),)


async def order(world: World, plan: Plan, identity: str = "r1", **selector: str) -> None:
    """Start a rollout of version 1."""
    new = NewRollout(identity, MODEL, 1, "main", selector, None, plan)
    await world.change(lambda conn, now_ns: service.create(conn, new, "test", now_ns))
    await world.tick()


async def say(world: World, command: Command, rollout: str = "r1") -> None:
    """An operator's word."""
    await world.change(lambda conn, now_ns: service.control(conn, rollout, command, "me", now_ns))
    await world.tick()


async def counters_hold(world: World, rollout: str = "r1") -> None:
    """The oracle: what is stored is what a count of every member gives."""

    def look(conn: Any) -> tuple[list[Any], list[Any]]:
        query = select(rollout_waves).where(rollout_waves.c.rollout == rollout).order_by(rollout_waves.c.wave)
        stored = [tuple(row)[:-1] for row in conn.execute(query)]
        recount(conn, conn.execute(select(rollouts).where(rollouts.c.id == rollout)).one())
        return stored, [tuple(row)[:-1] for row in conn.execute(query)]

    stored, counted = await world.store.write(look)
    assert stored == counted


def play(tmp_path: Path, size: int, scenario: Callable[[World], Any]) -> None:
    """A fleet of `size` devices, a released version, and at the end the oracle."""

    async def whole(world: World) -> None:
        await fleet(world, size)
        await scenario(world)
        await counters_hold(world)

    hub(tmp_path, whole)


def test_a_wave_waits_for_approval(tmp_path: Path) -> None:
    """After the gates of the one before; approving is refused where nothing waits."""

    async def scenario(world: World) -> None:
        await order(world, Plan((Wave(count=1), Wave(percent=100, approval=True))))
        with pytest.raises(ConflictError, match="it cannot approve"):
            await say(world, Command.APPROVE)
        await world.report((await waiting(world))[0])
        await world.tick()
        assert await state(world) == ("waiting_for_approval", 0, "wave 2 waits for approval")
        await say(world, Command.APPROVE)
        assert (await state(world))[:2] == ("running", 1)
        assert len(await waiting(world)) == 2

    play(tmp_path, 3, scenario)


def test_a_soaking_wave_is_watched(tmp_path: Path) -> None:
    """Nothing opens before the time is over."""

    async def scenario(world: World) -> None:
        await order(world, Plan((Wave(count=1, soak_s=100), Wave(percent=100))))
        await world.report((await waiting(world))[0])
        await quiet(world, 80)
        assert (await state(world))[1] == 0
        await quiet(world, 20)
        assert (await state(world))[1] == 1

    play(tmp_path, 2, scenario)


def test_a_failed_execution_is_repeated_and_the_device_counts_once(tmp_path: Path) -> None:
    """After a while in the penalty box; by its last attempt; a late word of the first one changes nothing."""

    async def scenario(world: World) -> None:
        await order(world, Plan(ALL, retry=Retry(attempts=2, delay_s=60)))
        await world.report("p00", Outcome.FAILED_NO_CHANGE, reason="flash busy")
        await quiet(world, 40)
        assert await waiting(world) == []
        assert (await state(world))[0] == "running"
        await quiet(world, 20)
        assert await waiting(world) == ["p00"]
        assert (await world.desired("p00")).slots[0].execution.attempt == 2
        await world.report("p00")
        await world.tick()
        view = await world.store.read(lambda conn: rollout_view(conn, "r1"))
        assert (view.state, view.committed, view.failed, view.retries) == ("succeeded", 1, 0, 1)
        assert view.outcomes == {"succeeded": 1}

    play(tmp_path, 1, scenario)


def test_a_device_that_was_held_under_way_is_not_asked_again(tmp_path: Path) -> None:
    """Its failure is its end, whatever the plan would repeat; the other one is (seed 55076 of the fuzzer once)."""

    async def scenario(world: World) -> None:
        await order(world, Plan(ALL, retry=Retry(attempts=2, delay_s=5)))
        await world.change(lambda conn, now_ns: holds.hold(conn, "p00", "in use", "me", now_ns))
        for name in ("p00", "p01"):
            await world.report(name, Outcome.FAILED_NO_CHANGE, reason="flash busy")
        view = await world.store.read(lambda conn: rollout_view(conn, "r1"))
        assert (view.failed, view.retries) == (1, 1)

    play(tmp_path, 2, scenario)


def test_a_rejection_is_final_and_a_budget_ends(tmp_path: Path) -> None:
    """One retry for the whole rollout: the second failure counts."""

    async def scenario(world: World) -> None:
        retry = Retry(attempts=5, delay_s=1, budget=1)
        await order(world, Plan(ALL, (Gate("commit_rate >= 0 %"),), retry=retry))
        await world.report("p00", Outcome.REJECTED, reason="no")
        await world.report("p01", Outcome.TIMED_OUT)
        await world.report("p02", Outcome.TIMED_OUT)
        page = await world.store.read(lambda conn: member_views(conn, "r1", Window(2)))
        assert [(one.outcome, one.attempt) for one in page.items] == [("rejected", 1), (None, 2)]
        rest = await world.store.read(lambda conn: member_views(conn, "r1", Window(2, page.end)))
        assert [(one.device, one.outcome) for one in rest.items] == [("p02", "timed_out")]
        assert rest.end is None

    play(tmp_path, 3, scenario)


def test_what_the_hub_missed_is_not_charged_to_devices(tmp_path: Path) -> None:
    """It was down for an hour: executions get the hour back."""

    async def scenario(world: World) -> None:
        await order(world, Plan(ALL))
        world.clock.ns += 3600 * SECOND
        await world.tick()
        assert (await state(world))[0] == "running"
        await quiet(world, 580)
        assert (await state(world))[0] == "running"
        await quiet(world, 60)
        assert (await state(world))[0] == "halted"

    play(tmp_path, 1, scenario)


def test_rate_concurrency_and_label_groups_are_kept(tmp_path: Path) -> None:
    """Two arms, one device of each at a time, and no more than one a second."""

    async def scenario(world: World) -> None:
        plan = Plan(ALL, rate=Rate(60), disruption=Disruption("arm", 1), max_in_flight=2)
        await order(world, plan)
        assert len(await waiting(world)) == 1
        world.clock.ns += SECOND + 1
        await world.tick()
        assert len(await waiting(world)) == 2
        world.clock.ns += SECOND + 1
        await world.tick()
        assert len(await waiting(world)) == 2
        await world.report((await waiting(world))[0])
        await world.tick()
        assert len(await waiting(world)) == 2

    play(tmp_path, 6, scenario)


def test_a_window_opens_by_the_clock_of_its_zone(tmp_path: Path) -> None:
    """02:00 in Berlin is 01:00 UTC in January; a window that never opens is refused."""

    async def scenario(world: World) -> None:
        with pytest.raises(InvalidError, match="window: cron '0 2 30 2 \\*'"):
            await order(world, Plan(ALL, window=Hours("0 2 30 2 *", "Europe/Berlin", 3600)))
        with pytest.raises(InvalidError, match="no time zone 'Europe/Berln'"):
            await order(world, Plan(ALL, window=Hours("0 2 * * *", "Europe/Berln", 3600)))
        await order(world, Plan(ALL, window=Hours("0 2 * * *", "Europe/Berlin", 3600)))
        assert await waiting(world) == []
        world.clock.ns = 3599 * SECOND
        await world.tick()
        assert await waiting(world) == []
        world.clock.ns = 3600 * SECOND
        await world.tick()
        assert await waiting(world) == ["p00"]

    play(tmp_path, 1, scenario)


def test_a_revert_brings_back_what_devices_ran(tmp_path: Path) -> None:
    """As a rollout of its own, to those who were reached and had something before."""

    async def scenario(world: World) -> None:
        def second_version(conn: Any, now_ns: int) -> Any:
            one = dict(conn.execute(select(versions)).one()._mapping)
            conn.execute(insert(versions).values({**one, "version": 2, "counter": 2}))
            return service.create(conn, NewRollout("r2", MODEL, 2, "main", {}, None, Plan(ALL)), "test", now_ns)

        await order(world, Plan((Wave(count=1),)))
        (reached,) = await waiting(world)
        await world.report(reached)
        await world.tick()
        await world.change(second_version)
        await world.tick()
        assert (await world.desired(reached)).slots[0].version == 2
        await say(world, Command.REVERT, "r2")
        assert (await state(world, "r2"))[0] == "aborted"
        back = await world.store.read(
            lambda conn: conn.execute(select(rollouts).where(rollouts.c.reverts == "r2")).one()
        )
        assert (back.version, back.state) == (1, "running")
        assert (await world.desired(reached)).slots[0].version == 1
        found = select(members.c.device).where(members.c.rollout == back.id)
        assert await world.store.read(lambda conn: conn.scalars(found).all()) == [reached]

    play(tmp_path, 2, scenario)


def test_a_gate_judges_what_devices_measure(tmp_path: Path) -> None:
    """The new version is half again as slow on every device: halted, with the evidence in the view."""

    async def scenario(world: World) -> None:
        gate = Gate("latency_ms <= 1.2 * previous(latency_ms)", minimum_sample=5)
        plan = Plan((Wave(percent=100, soak_s=60),), (gate,))
        names = [f"p{number:02}" for number in range(8)]

        def counted(conn: Any, now_ns: int, model: str, bucket: int) -> Any:
            conn.execute(delete(stats).where(stats.c.model == model))
            for name in names:
                one = {"predictions": 50, "feedback": 0, "correct": 0, "confidence_sum": 40.0}
                key = {"device": name, "model": model, "version": 1, "variant": "int8"}
                conn.execute(insert(stats).values(**key, **one, latency_us={str(bucket + int(name[1:]) % 2): 50}))

        def ran_before(conn: Any, now_ns: int) -> Any:
            counted(conn, now_ns, "elder", 60)
            for name in names:
                told = {"phase": "committed", "model": "elder", "version": 1, "variant": "int8", "sha256": "e" * 64}
                conn.execute(insert(slots).values(device=name, slot="main", execution="", reason="", **told))

        await world.store.write(lambda conn: ran_before(conn, 0))
        await order(world, plan)
        for name in names:
            await world.report(name)
        await world.tick()
        assert (await state(world))[0] == "running"
        await world.store.write(lambda conn: counted(conn, 0, MODEL, 66))
        await world.tick()
        status, _, reason = await state(world)
        assert status == "halted"
        assert "gate latency_ms <= 1.2 * previous(latency_ms): 1.68 times previous on 8 devices" in reason
        view = await world.store.read(lambda conn: rollout_view(conn, "r1"))
        (verdict,) = view.waves[0].gates
        assert (verdict.decision, verdict.sample, verdict.value) == ("refused", 8, pytest.approx(1.68, abs=0.01))
        await say(world, Command.RESUME)
        assert (await state(world))[0] != "halted", "what a person has seen halts it no more"

    play(tmp_path, 8, scenario)


def test_a_mistake_in_a_gate_is_refused_with_its_place(tmp_path: Path) -> None:
    """Before anything is written."""

    async def scenario(world: World) -> None:
        gates = (Gate("commit_rate >= 95 %"), Gate("latncy_ms <= 3 ms"))
        with pytest.raises(InvalidError, match=r"gates\.1\.expression: column 1: there is no fact 'latncy_ms'"):
            await order(world, Plan(ALL, gates))
        await order(world, Plan(ALL))

    play(tmp_path, 1, scenario)


def test_counts_of_a_rollout_from_before_are_made_when_they_are_needed(tmp_path: Path) -> None:
    """The rows that a migration finds have none; whatever comes first, a report or a tick, makes them."""

    async def scenario(world: World) -> None:
        await order(world, Plan((Wave(count=2), Wave(percent=100))))
        await world.store.write(lambda conn: conn.execute(delete(rollout_waves)))
        first, second = await waiting(world)
        await world.report(first)
        await counters_hold(world)
        await world.store.write(lambda conn: conn.execute(delete(rollout_waves)))
        await world.report(second)
        await world.tick()
        assert (await state(world))[1] == 1

    play(tmp_path, 4, scenario)


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Gates, windows, retries and all."""

    async def scenario(world: World) -> None:
        plan = Plan(
            (Wave(count=1, selector={"arm": "left"}, approval=True, soak_s=3), Wave(percent=50)),
            (Gate("commit_rate >= 90 %", 0.01, 0.02, 0.05, 7),),
            rate=Rate(50, 2.0, 1000, 400),
            disruption=Disruption("arm", 2),
            retry=Retry((Outcome.TIMED_OUT,), 3, 5.0, 9),
            window=Hours("0 2 * * *", "Europe/Berlin", 3600, 60),
            install_window=Hours("0 4 * * 0", "Europe/Berlin", 3600),
        )
        await order(world, plan)
        row = await world.store.read(lambda conn: conn.execute(select(rollouts)).one())
        assert service.plan_of(row) == plan
        plain = msgspec.to_builtins(Plan(ALL))
        await world.store.write(lambda conn: conn.execute(update(rollouts).values(plan={"waves": plain["waves"]})))
        row = await world.store.read(lambda conn: conn.execute(select(rollouts)).one())
        assert service.plan_of(row) == Plan(ALL)
        await world.store.write(lambda conn: conn.execute(update(rollouts).values(plan=msgspec.to_builtins(plan))))

    play(tmp_path, 4, scenario)
