"""What rollouts go by: evidence in turn and since the last resume, every assignment, what devices ran; on SQLite."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from cloud.api.rollout_views import rollout_view
from cloud.core.gates import Gate
from cloud.core.rollout import Command, Plan, Wave
from cloud.core.rollout.plan import Rate, Retry
from cloud.ports import ObjectStoreError
from cloud.service import deltas
from cloud.service import rollouts as service
from cloud.service.effects import Wake
from cloud.service.rollouts import NewRollout, measuring
from cloud.tables import members, objects, slots, stats, versions
from simulator.fakes.store import InlineDeltas
from tests.scenes.hub_steps import fleet, hub, outcomes, quiet, state, waiting
from tests.worlds.hub_world import MODEL, World
from wire.messages import Outcome

SECOND = 10**9
ALL = (Wave(percent=100),)
SLOWER = Gate("latency_ms <= 1.2 * previous(latency_ms)", minimum_sample=3)


def play(tmp_path: Path, size: int, scenario: Callable[[World], Any]) -> None:
    """A fleet of `size` devices and a released version."""

    async def whole(world: World) -> None:
        await fleet(world, size)
        await scenario(world)

    hub(tmp_path, whole)


async def order(world: World, plan: Plan, version: int = 1) -> None:
    """Start a rollout."""
    new = NewRollout(f"r{version}", MODEL, version, "main", {}, None, plan)
    await world.change(lambda conn, now_ns: service.create(conn, new, "test", now_ns))
    await world.tick()


async def say(world: World, command: Command, rollout: str = "r1") -> None:
    """An operator's word."""
    await world.change(lambda conn, now_ns: service.control(conn, rollout, command, "me", now_ns))
    await world.tick()


async def another_version(world: World) -> None:
    """Version 2, of the same files."""

    def write(conn: Any) -> None:
        one = dict(conn.execute(select(versions)).one()._mapping)
        conn.execute(insert(versions).values({**one, "version": 2, "counter": 2}))

    await world.store.write(write)


async def counted(world: World, names: list[str], model: str, bucket: int, feedback: int = 0) -> None:
    """What these devices have counted of version 1 of a model, in one bucket of latency."""
    numbers = {"predictions": 50, "feedback": feedback, "correct": feedback, "confidence_sum": 40.0}
    rows = [
        {"device": name, "model": model, "version": 1, "variant": "int8", **numbers, "latency_us": {str(bucket): 50}}
        for name in names
    ]
    await world.store.write(lambda conn: conn.execute(insert(stats), rows))


async def ran_before(world: World, names: list[str]) -> None:
    """An elder model, and how quick it was."""
    told = {"phase": "committed", "model": "elder", "version": 1, "variant": "int8", "sha256": "e" * 64}
    rows = [{"device": name, "slot": "main", "execution": "", "reason": "", **told} for name in names]
    await world.store.write(lambda conn: conn.execute(insert(slots), rows))
    await counted(world, names, "elder", 60)


def test_resuming_after_a_halt_by_figures_leads_to_an_end(tmp_path: Path) -> None:
    """What was shown is accepted: a rollout whose last wave was slow everywhere succeeds, it does not halt again."""

    async def scenario(world: World) -> None:
        names = [f"p{number:02}" for number in range(6)]
        await ran_before(world, names)
        await order(world, Plan((Wave(percent=100, soak_s=60),), (SLOWER,)))
        for name in names:
            await world.report(name)
        await counted(world, names, MODEL, 70)
        await world.tick()
        assert (await state(world))[0] == "halted"
        await say(world, Command.RESUME)
        assert (await state(world))[0] == "running"
        await quiet(world, 60)
        assert await state(world) == ("succeeded", 0, "")
        (wave,) = (await world.store.read(lambda conn: rollout_view(conn, "r1"))).waves
        assert (wave.committed, wave.accepted, wave.acknowledged) == (6, 6, 0)

    play(tmp_path, 6, scenario)


def test_after_a_resume_the_gate_judges_what_comes_after_it(tmp_path: Path) -> None:
    """Nothing was measured in the first wave: halted, resumed, and the next wave is slow: halted for that."""

    async def scenario(world: World) -> None:
        names = [f"p{number:02}" for number in range(12)]
        await ran_before(world, names)
        await order(world, Plan((Wave(count=2), Wave(percent=100)), (SLOWER,), evidence_timeout_s=100))
        for name in await waiting(world):
            await world.report(name)
        await quiet(world, 120)
        assert "too little was measured: nothing measured yet" in (await state(world))[2]
        await say(world, Command.RESUME)
        assert (await state(world))[:2] == ("running", 1)
        late = await waiting(world)
        for name in late:
            await world.report(name)
        await counted(world, late, MODEL, 70)
        await world.tick()
        assert (await state(world))[0] == "halted"
        assert "2.38 times previous on 10 devices" in (await state(world))[2]

    play(tmp_path, 12, scenario)


def test_the_rate_counts_repeated_attempts(tmp_path: Path) -> None:
    """Two a minute, whoever is asked: a device that fails at once and is asked again takes the place of another."""

    async def scenario(world: World) -> None:
        plan = Plan(ALL, (), rate=Rate(2), retry=Retry((Outcome.FAILED_NO_CHANGE,), 9, 1.0))
        await order(world, plan)
        asked: list[int] = []
        for _ in range(50):
            for name in await waiting(world):
                asked.append(world.clock.ns // SECOND)
                await world.report(name, Outcome.FAILED_NO_CHANGE)
            world.clock.ns += 3 * SECOND
            await world.tick()
        assert len(asked) >= 4
        assert max(sum(at <= one < at + 60 for one in asked) for at in asked) == 2

    play(tmp_path, 3, scenario)


def test_devices_that_never_show_enough_hold_up_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two a tick are looked at; the first two give no feedback, ever."""
    monkeypatch.setattr(measuring, "AT_ONCE", 2)

    async def scenario(world: World) -> None:
        names = [f"p{number:02}" for number in range(6)]
        await order(world, Plan((Wave(percent=100, soak_s=10**6),), (Gate("accuracy >= 50 %"),)))
        for name in names:
            await world.report(name)
        await counted(world, names[:2], MODEL, 60)
        await counted(world, names[2:], MODEL, 60, feedback=40)
        for _ in range(3):
            await world.tick()
        query = select(members.c.device).where(members.c.measured).order_by(members.c.device)
        assert await world.store.read(lambda conn: conn.scalars(query).all()) == names[2:]
        await world.store.write(lambda conn: conn.execute(update(stats).values(feedback=40, correct=40)))
        for _ in range(4):
            await world.tick()
        assert await world.store.read(lambda conn: conn.scalars(query).all()) == names, "and round again"

    play(tmp_path, 6, scenario)


def test_devices_that_wait_are_the_control_group(tmp_path: Path) -> None:
    """By what they run now, once; the one that was told counts with what it was given."""

    async def scenario(world: World) -> None:
        names = [f"p{number:02}" for number in range(4)]
        await ran_before(world, names)
        gates = (Gate("latency_ms <= 1.2 * control(latency_ms)"),)
        await order(world, Plan((Wave(count=1), Wave(percent=100)), gates))
        (told,) = await waiting(world)
        await world.report(told)
        await counted(world, [told], MODEL, 70)
        await world.tick()
        query = select(members.c.device, members.c.figures, members.c.measured)
        rows = await world.store.read(lambda conn: conn.execute(query).all())
        assert {row.device: sorted(row.figures) for row in rows if row.device != told} == {
            name: ["control"] for name in names if name != told
        }
        assert [sorted(row.figures) for row in rows if row.device == told] == [["before", "now"]]
        assert all(row.measured for row in rows)

    play(tmp_path, 4, scenario)


def test_devices_go_back_to_a_version_that_was_retired_since(tmp_path: Path) -> None:
    """Nobody new gets it, but those who ran it do."""

    async def scenario(world: World) -> None:
        await order(world, Plan(ALL))
        await world.report("p00")
        await world.tick()
        await another_version(world)
        await order(world, Plan(ALL), 2)
        await world.store.write(lambda conn: conn.execute(update(versions).where(RETIRED).values(retired="leaks")))
        await say(world, Command.REVERT, "r2")
        assert (await world.desired("p00")).slots[0].version == 1

    play(tmp_path, 1, scenario)


RETIRED = versions.c.version == 1


def test_a_delta_in_the_making_holds_up_assignments_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is silent runs out of time, a failure halts; only nobody new is told until the delta is decided."""
    monkeypatch.setattr(deltas, "MIN_BYTES", 0)

    async def scenario(world: World) -> None:
        await order(world, Plan(ALL, max_in_flight=1))
        (told,) = await waiting(world)
        await world.enrol("p02")  # joins late, and starts from another file than the others
        await starts_from(world, "p02")
        effects = await world.tick()
        assert Wake.DELTAS in effects.wakes
        await quiet(world, 640)
        assert (await outcomes(world))[told] == Outcome.TIMED_OUT
        assert (await state(world))[0] == "halted"

    play(tmp_path, 2, scenario)


async def starts_from(world: World, name: str) -> None:
    """The device holds another file of the slot, which the hub has, too."""
    told = {"phase": "committed", "model": "elder", "version": 1, "variant": "int8", "sha256": "e" * 64}

    def write(conn: Any) -> None:
        conn.execute(insert(slots).values(device=name, slot="main", execution="", reason="", **told))
        conn.execute(insert(objects).values(sha256="e" * 64, bytes=100, created_ns=0))

    await world.store.write(write)


class FullObjects:
    """Reads anything, has no room."""

    async def get(self, sha256: str) -> bytes:
        """Something that a delta is worth for."""
        return sha256.encode() * 100

    async def put(self, data: bytes) -> str:
        """No room."""
        raise ObjectStoreError("no space left on device")


def test_a_delta_that_cannot_be_stored_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device gets the whole file."""
    monkeypatch.setattr(deltas, "MIN_BYTES", 0)

    async def scenario(world: World) -> None:
        await starts_from(world, "p00")
        await order(world, Plan(ALL))
        assert await waiting(world) == []
        full: Any = FullObjects()
        await deltas.Deltas(world.store, full, InlineDeltas(), world.clock).sync()
        await world.tick()
        assert (await world.desired("p00")).slots[0].deltas == ()

    play(tmp_path, 1, scenario)


def test_a_wave_soaks_from_the_end_of_its_last_execution(tmp_path: Path) -> None:
    """Not from the newest end while others are under way, though the gate has passed long since."""

    async def scenario(world: World) -> None:
        await order(world, Plan((Wave(count=3, soak_s=100), Wave(percent=100)), (Gate("commit_rate >= 0 %"),)))
        *early, last = await waiting(world)
        for name in early:
            await world.report(name)
        await quiet(world, 120)
        assert (await state(world))[1] == 0, "one of the wave is still under way"
        await world.report(last)
        await quiet(world, 80)
        assert (await state(world))[1] == 0, "watched for 100 s from now on"
        await quiet(world, 20)
        assert (await state(world))[1] == 1

    play(tmp_path, 5, scenario)
