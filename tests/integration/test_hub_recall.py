"""A halted or aborted rollout takes back what has not begun: nobody installs tonight what was halted today."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from cloud.core.rollout import Command, Plan, Wave
from cloud.core.rollout.windows import Window
from cloud.service import holds
from cloud.service import rollouts as service
from cloud.service.rollouts import NewRollout
from cloud.tables import versions
from tests.scenes.hub_steps import fleet, hub, outcomes, state, waiting
from tests.worlds.hub_world import MODEL, World
from wire.messages import Installed, Outcome, Phase

NIGHT = Window("0 2 * * *", "Europe/Berlin", 3600.0)


async def order(world: World, version: int, plan: Plan) -> None:
    """Start a rollout to everybody."""
    new = NewRollout(f"r{version}", MODEL, version, "main", {}, None, plan)
    await world.change(lambda conn, now_ns: service.create(conn, new, "test", now_ns))
    await world.tick()


async def say(world: World, command: Command) -> None:
    """To the rollout of version 2."""
    await world.change(lambda conn, now_ns: service.control(conn, "r2", command, "me", now_ns))
    await world.tick()


async def told(world: World, name: str, phase: Phase, outcome: Outcome | None = None) -> None:
    """The device reports on version 2; it still runs version 1."""
    slot = (await world.desired(name)).slots[0]
    runs = Installed(model=MODEL, version=1, variant=slot.variant, sha256=slot.sha256)
    await world.report(name, outcome, phase=phase, current=runs)


async def wanted(world: World) -> list[int]:
    """The version that is desired of each device."""
    return [(await world.desired(f"p{number:02}")).slots[0].version for number in range(4)]


async def second_version_waits(world: World, number: int) -> None:
    """So many devices run version 1 and are told to install version 2 at night."""
    names = await fleet(world, number)
    await order(world, 1, Plan((Wave(percent=100),)))
    for name in names:
        await world.report(name)
    await world.tick()
    await world.store.write(another)
    await order(world, 2, Plan((Wave(percent=100),), install_window=NIGHT))


@pytest.mark.parametrize("command", [None, Command.ABORT])
def test_what_waits_for_its_window_is_taken_back(tmp_path: Path, command: Command | None) -> None:
    """One has failed, one waits, one is on trial, one is silent: the second and the last shall stay as they are."""

    async def scenario(world: World) -> None:
        await second_version_waits(world, 4)
        await told(world, "p01", Phase.WAITING_TO_INSTALL)
        await told(world, "p02", Phase.TRIAL)
        if command is None:
            await told(world, "p00", Phase.FAILED, Outcome.REJECTED)
            await world.tick()
            assert (await state(world, "r2"))[0] == "halted"
            await world.tick()
            assert await wanted(world) == [2, 1, 2, 1]
            assert await waiting(world, "r2") == ["p02"]
            await say(world, Command.RESUME)
            assert await wanted(world) == [2, 2, 2, 2], "asked again"
        else:
            await say(world, command)
            assert await wanted(world) == [1, 1, 2, 1]
            ends = await outcomes(world, "r2")
            assert ends == {"p00": "cancelled", "p01": "cancelled", "p02": None, "p03": "cancelled"}

    hub(tmp_path, scenario)


def test_who_was_held_meanwhile_is_not_asked_again(tmp_path: Path) -> None:
    """Told, then held, then taken back by the halt of the fleet: it steps out, and joins when it is released. (Seed
    500099.)"""

    async def scenario(world: World) -> None:
        await second_version_waits(world, 2)
        await world.change(lambda conn, now_ns: holds.halt(conn, "wait", "me", now_ns))
        await world.change(lambda conn, now_ns: holds.hold(conn, "p00", "in use", "me", now_ns))
        await world.tick()
        await world.change(lambda conn, now_ns: holds.resume(conn, "me", now_ns))
        await world.tick()
        assert [(await world.desired(name)).slots[0].version for name in ("p00", "p01")] == [1, 2]
        assert set(await outcomes(world, "r2")) == {"p01"}
        await world.change(lambda conn, now_ns: holds.release(conn, "p00", "me", now_ns))
        await world.tick()
        assert (await world.desired("p00")).slots[0].version == 2

    hub(tmp_path, scenario)


def test_a_success_that_was_taken_back_counts_for_nothing(tmp_path: Path) -> None:
    """A device installed on its own, out of reach, what had been halted: it goes back, and is asked again later."""

    async def scenario(world: World) -> None:
        await second_version_waits(world, 2)
        done = (await world.desired("p01")).slots[0]
        await told(world, "p00", Phase.FAILED, Outcome.REJECTED)
        await world.tick()
        await world.tick()
        assert (await world.desired("p01")).slots[0].version == 1
        runs = Installed(model=MODEL, version=2, variant=done.variant, sha256=done.sha256)
        await world.report("p01", execution=done.execution.id, current=runs)
        assert (await outcomes(world, "r2"))["p01"] is None
        await say(world, Command.RESUME)
        assert (await world.desired("p01")).slots[0].version == 2
        await world.report("p01")
        assert (await outcomes(world, "r2"))["p01"] == "succeeded"

    hub(tmp_path, scenario)


def test_what_another_rollout_has_told_a_device_since_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is aborted and the next one begun, while there are more devices to recall than a tick takes."""

    async def scenario(world: World) -> None:
        names = await fleet(world, 3)
        await order(world, 1, Plan((Wave(percent=100),)))
        for name in names:
            await world.report(name)
        await world.tick()
        await world.store.write(another)
        await order(world, 2, Plan((Wave(percent=100),), install_window=NIGHT))
        monkeypatch.setattr("cloud.service.rollouts.recalling.AT_ONCE", 1)
        await say(world, Command.REVERT)
        told_now = [(await world.desired(name)).sequence for name in names]
        for _ in names:
            await world.tick()
        assert [(await world.desired(name)).sequence for name in names] == told_now
        assert set((await outcomes(world, "r2")).values()) == {"cancelled"}

    hub(tmp_path, scenario)


def test_a_halt_of_the_fleet_takes_it_back_too(tmp_path: Path) -> None:
    """Until it is resumed; a pause of the rollout does not."""

    async def scenario(world: World) -> None:
        await fleet(world, 1)
        await order(world, 1, Plan((Wave(percent=100),), install_window=NIGHT))
        await world.change(lambda conn, now_ns: service.control(conn, "r1", Command.PAUSE, "me", now_ns))
        await world.tick()
        assert await waiting(world) == ["p00"]
        await world.change(lambda conn, now_ns: service.control(conn, "r1", Command.RESUME, "me", now_ns))
        await world.change(lambda conn, now_ns: holds.halt(conn, "fire", "me", now_ns))
        await world.tick()
        assert (await waiting(world), (await world.desired("p00")).slots) == ([], ())
        await world.change(lambda conn, now_ns: holds.resume(conn, "me", now_ns))
        await world.tick()
        assert await waiting(world) == ["p00"]

    hub(tmp_path, scenario)


def another(conn: Any) -> None:
    """Version 2, of the same files."""
    one = dict(conn.execute(select(versions)).one()._mapping)
    conn.execute(insert(versions).values({**one, "version": 2, "counter": 2}))


def test_what_never_ran_anything_is_told_nothing(tmp_path: Path) -> None:
    """The slot is taken out of its assignment."""

    async def scenario(world: World) -> None:
        await fleet(world, 1)
        await order(world, 1, Plan((Wave(percent=100),), install_window=NIGHT))
        await world.change(lambda conn, now_ns: service.control(conn, "r1", Command.ABORT, "me", now_ns))
        await world.tick()
        assert (await world.desired("p00")).slots == ()

    hub(tmp_path, scenario)
