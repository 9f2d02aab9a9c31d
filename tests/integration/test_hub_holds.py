"""Holds, pins and the fleet-wide halt: what rollouts leave alone, and how they go on afterwards."""

from pathlib import Path

from sqlalchemy import Connection

from cloud.service.rollouts import ledger, rollout_row
from tests.scenes.hub_steps import fleet, outcomes, roll_out
from tests.worlds.api_world import Api, api
from tests.worlds.hub_world import MODEL
from wire.ports import SECOND


async def state(call: Api) -> str:
    """Of the rollout."""
    return str((await call("viewer", "GET", "/rollouts/r1"))["state"])


async def advance(call: Api, names: list[str]) -> None:
    """Whoever was told reports success, wave by wave."""
    for _ in range(4):
        await call.world.tick()
        for name in names:
            device = await call("viewer", "GET", f"/devices/{name}")
            if device["desired_sequence"] > device["accepted_sequence"]:
                await call.world.report(name)
    await call.world.tick()


def test_a_held_device_is_left_out_and_joins_when_it_is_released(tmp_path: Path) -> None:
    """The rollout does not wait for it; released in time, it comes under the same waves."""

    async def scenario(call: Api) -> None:
        names = await fleet(call.world, 3)
        await call("operator", "POST", "/devices/p00/hold", {"reason": "in use"})
        await roll_out(call.world)
        await call.world.tick()
        assert set(await outcomes(call.world)) == {"p01", "p02"}
        assert (await call("operator", "POST", "/devices/p00/release"))["held_reason"] == ""
        await call.world.tick()
        assert set(await outcomes(call.world)) == set(names)
        await advance(call, names)
        assert (await state(call), set((await outcomes(call.world)).values())) == ("succeeded", {"succeeded"})
        assert "not held" in await call("operator", "POST", "/devices/p00/release", None, 409)

    api(tmp_path, scenario)


def test_a_hold_during_a_rollout_does_not_strand_it(tmp_path: Path) -> None:
    """Who waits steps out; who has been told goes on to its end."""

    async def scenario(call: Api) -> None:
        names = await fleet(call.world, 3)
        await roll_out(call.world)
        await call.world.tick()
        told = [name for name in names if (await call("viewer", "GET", f"/devices/{name}"))["desired_sequence"]]
        waiting = next(name for name in names if name not in told)
        for name in (waiting, told[0]):
            await call("operator", "POST", f"/devices/{name}/hold", {"reason": "wait"})
        await advance(call, names)
        assert await state(call) == "succeeded"
        assert set(await outcomes(call.world)) == set(names) - {waiting}

    api(tmp_path, scenario)


def test_a_pinned_slot_takes_its_own_version_only(tmp_path: Path) -> None:
    """Another version's rollout leaves the device out; its own takes it; the twin shows the pin."""

    async def scenario(call: Api) -> None:
        await fleet(call.world, 2)
        pin = {"model": MODEL, "version": 7, "reason": "certified with 7"}
        twin = await call("operator", "PUT", "/devices/p00/pins/main", pin)
        assert (twin["pins"][0]["version"], twin["pins"][0]["pinned_by"]) == (7, "operator")
        await roll_out(call.world)
        assert set(await outcomes(call.world)) == {"p01"}
        await call("operator", "POST", "/rollouts/r1/abort")
        await call("operator", "PUT", "/devices/p00/pins/main", pin | {"version": 1})
        await roll_out(call.world, "r2")
        assert set(await outcomes(call.world, "r2")) == {"p00", "p01"}
        await call("operator", "DELETE", "/devices/p00/pins/main")
        assert "not pinned" in await call("operator", "DELETE", "/devices/p00/pins/main", None, 409)

    api(tmp_path, scenario)


def test_nobody_to_roll_out_to_is_said(tmp_path: Path) -> None:
    """Everybody is held."""

    async def scenario(call: Api) -> None:
        await fleet(call.world, 1)
        await call("operator", "POST", "/devices/p00/hold", {"reason": "x"})
        rollout = {"model": MODEL, "version": 1, "waves": [{"percent": 100}]}
        assert "devices in all: 1 (1 held)" in await call("operator", "POST", "/rollouts", rollout, 422)

    api(tmp_path, scenario)


def test_a_halted_fleet_is_assigned_nothing_until_it_is_resumed(tmp_path: Path) -> None:
    """What is under way still ends, and runs out of time; nothing new begins, in any rollout."""

    async def scenario(call: Api) -> None:
        names = await fleet(call.world, 3)
        await roll_out(call.world)
        assert (await call("operator", "POST", "/fleet/halt", {"reason": "recall"}))["halted"] == "recall"
        await advance(call, names)
        assert [(await call("viewer", "GET", f"/devices/{name}"))["desired_sequence"] for name in names] == [0, 0, 0]
        assert await state(call) == "running"
        assert (await call("operator", "POST", "/fleet/resume"))["halted"] is None
        await advance(call, names)
        assert await state(call) == "succeeded"
        assert "not halted" in await call("operator", "POST", "/fleet/resume", None, 409)

    api(tmp_path, scenario)


def test_time_runs_out_in_a_halted_fleet_too(tmp_path: Path) -> None:
    """A silent device does not stay under way for ever."""

    async def scenario(call: Api) -> None:
        await fleet(call.world, 1)
        await roll_out(call.world)
        await call.world.tick()
        await call("operator", "POST", "/fleet/halt", {"reason": "recall"})
        for _ in range(28):  # a longer gap would be the hub's own outage
            call.world.clock.ns += 25 * SECOND
            await call.world.tick()
        assert await outcomes(call.world) == {"p00": "timed_out"}

    api(tmp_path, scenario)


def test_the_counts_of_a_wave_follow_who_steps_out_and_comes_back(tmp_path: Path) -> None:
    """As if every member had been counted anew."""

    async def scenario(call: Api) -> None:
        await fleet(call.world, 4)
        await roll_out(call.world)
        await call.world.tick()
        for name in ("p00", "p01"):
            await call("operator", "POST", f"/devices/{name}/hold", {"reason": "x"})
        await call("operator", "POST", "/devices/p02/revoke", {"reason": "stolen"})
        assert await counted(call)
        for name in ("p00", "p01"):
            await call("operator", "POST", f"/devices/{name}/release")
        await call.world.tick()
        assert await counted(call)

    api(tmp_path, scenario)


async def counted(call: Api) -> bool:
    """Is what is stored what counting gives?"""

    def look(conn: Connection) -> bool:
        row = rollout_row(conn, "r1")
        return ledger.counts_of_waves(conn, row) == ledger.recount(conn, row)

    return await call.world.store.write(look)
