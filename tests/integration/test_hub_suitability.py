"""Rollouts on real SQLite: devices that cannot run a version are rejected before anything is sent to them."""

from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import select

from cloud.core.rollout import Command, Wave
from cloud.core.rollout.windows import Window
from cloud.service import rollouts as rollout_service
from cloud.tables import desired, members
from tests.scenes.hub_steps import fleet, hub, quiet, roll_out, state, waiting
from tests.worlds.hub_world import CAPABILITIES, ROOT, World
from wire.codec import SPEAKS, encode
from wire.messages import Capabilities, Outcome, Reported

EVERYBODY = (Wave(percent=100),)


async def says(world: World, device: str, speaks: tuple[int, int] = SPEAKS, refused: str = "", **have: Any) -> None:
    """The device reports these capabilities."""
    world.clock.ns += 1
    capabilities: Capabilities = msgspec.structs.replace(CAPABILITIES, **have)
    world.seqs[device] = world.seqs.get(device, 0) + 1
    told: dict[str, Any] = {"seq": world.seqs[device], "sequence": 0, "speaks": speaks, "refused": refused}
    report = Reported(agent="fleetloop 0.1", capabilities=capabilities, **told)
    await world.receive((ROOT.up(device, "reported"), encode(report)))


async def ended(world: World) -> dict[str, tuple[str | None, str]]:
    """Device -> outcome and reason in the rollout."""
    rows = await world.store.read(lambda conn: conn.execute(select(members).order_by(members.c.device)).all())
    return {row.device: (row.outcome, row.reason) for row in rows}


async def assigned(world: World) -> list[str]:
    """Devices that were ever sent a desired document."""
    return sorted(await world.store.read(lambda conn: conn.scalars(select(desired.c.device)).all()))


class TestSuitability:
    """What a device reported decides whether it is assigned."""

    def test_a_device_that_cannot_run_the_version_is_rejected_and_nothing_is_sent(self, tmp_path: Path) -> None:
        """With the exact reason; the wave counts it as failed at once."""

        async def scenario(world: World) -> None:
            await fleet(world, 4)
            await says(world, "p01", max_opset=11)
            await roll_out(world, waves=EVERYBODY)
            effects = await world.tick()
            reason = "variant int8: needs opset 20, this device runs at most 11"
            assert (await ended(world))["p01"] == (Outcome.REJECTED, reason)
            assert await assigned(world) == ["p00", "p02", "p03"]
            assert {one.topic for one in effects.publishes if one.retain} == {
                ROOT.dn(name, "desired") for name in ("p00", "p02", "p03")
            }
            status, _, why = await state(world)
            assert status == "halted"
            assert "1 of 1 completed executions failed" in why

        hub(tmp_path, scenario)

    def test_room_and_memory_are_looked_at(self, tmp_path: Path) -> None:
        """The optimizer measured the one and weighed the other."""

        async def scenario(world: World) -> None:
            await fleet(world, 2)
            await says(world, "p00", ram_bytes=32 << 20)
            await says(world, "p01", disk_free_bytes=2)
            await roll_out(world, waves=EVERYBODY)
            await world.tick()
            reasons = [reason for _, reason in (await ended(world)).values()]
            assert reasons[0] == f"variant int8: needs {60 << 20} bytes of RAM, this device has {32 << 20}"
            assert reasons[1].startswith("variant int8: needs ")
            assert reasons[1].endswith(" bytes of flash, this device has 2 free")

        hub(tmp_path, scenario)

    def test_a_device_that_never_reported_is_assigned(self, tmp_path: Path) -> None:
        """It judges itself, before it downloads anything."""

        async def scenario(world: World) -> None:
            await fleet(world, 1)
            await roll_out(world, waves=EVERYBODY)
            await world.tick()
            assert await waiting(world) == ["p00"]

        hub(tmp_path, scenario)

    def test_a_device_that_fits_later_is_assigned_later(self, tmp_path: Path) -> None:
        """Its runtime was brought up to date: while it still does not fit, only the reason is another one."""

        async def scenario(world: World) -> None:
            await fleet(world, 2)
            await says(world, "p01", max_opset=11)
            await roll_out(world, waves=EVERYBODY)
            await world.tick()
            await world.change(lambda conn, now: rollout_service.control(conn, "r1", Command.RESUME, "me", now))
            await says(world, "p01", max_opset=12)
            await world.tick()
            outcome, reason = (await ended(world))["p01"]
            assert (outcome, reason[-2:]) == (Outcome.REJECTED, "12")
            await says(world, "p01")
            await world.tick()
            assert await waiting(world) == ["p00", "p01"]
            for device in ("p00", "p01"):
                await world.report(device)
            await world.tick()
            assert (await state(world))[0] == "succeeded"

        hub(tmp_path, scenario)

    def test_aborting_does_not_rewrite_why_a_device_was_rejected(self, tmp_path: Path) -> None:
        """Only those that still wait are cancelled."""

        async def scenario(world: World) -> None:
            await fleet(world, 3)
            await says(world, "p01", max_opset=11)
            await roll_out(world, waves=EVERYBODY)
            await world.tick()
            await world.change(lambda conn, now: rollout_service.control(conn, "r1", Command.ABORT, "me", now))
            assert (await ended(world))["p01"][0] == Outcome.REJECTED

        hub(tmp_path, scenario)


NIGHT = Window("0 2 * * *", "Europe/Berlin", 3600)


async def schema_of(world: World, device: str) -> int:
    """That of the desired document of the device."""
    return (await world.desired(device)).schema


class TestWindowsAndAgents:
    """Only an agent that says so knows windows."""

    def test_an_agent_that_knows_no_windows_is_rejected_by_name_until_it_is_updated(self, tmp_path: Path) -> None:
        """Nothing is sent to it meanwhile; what others are sent names the schema that they must speak."""

        async def scenario(world: World) -> None:
            await fleet(world, 2)
            await says(world, "p00")
            await says(world, "p01", speaks=(1, 1))
            await roll_out(world, waves=EVERYBODY, window=NIGHT)
            await world.tick()
            reason = "needs an agent that speaks schema 2, agent fleetloop 0.1 speaks up to 1: update it"
            assert (await ended(world))["p01"] == (Outcome.REJECTED, reason)
            assert await assigned(world) == ["p00"]
            assert await schema_of(world, "p00") == 2
            await world.change(lambda conn, now: rollout_service.control(conn, "r1", Command.RESUME, "me", now))
            await says(world, "p01")
            await world.tick()
            assert await assigned(world) == ["p00", "p01"]

        hub(tmp_path, scenario)

    def test_an_agent_that_knows_no_windows_gets_every_other_assignment(self, tmp_path: Path) -> None:
        """In the schema that it speaks."""

        async def scenario(world: World) -> None:
            await fleet(world, 1)
            await says(world, "p00", speaks=(1, 1))
            await roll_out(world, waves=EVERYBODY)
            await world.tick()
            assert await schema_of(world, "p00") == 1

        hub(tmp_path, scenario)

    def test_a_device_that_had_said_nothing_and_refuses_what_it_got_ends_with_its_reason(self, tmp_path: Path) -> None:
        """It was told before anybody knew its agent; it installs nothing, and the rollout says why."""

        async def scenario(world: World) -> None:
            await fleet(world, 1)
            await roll_out(world, waves=EVERYBODY)
            await world.tick()
            await says(world, "p00", speaks=(1, 1), refused="assignment: unknown field `windows`")
            await quiet(world, 700)
            outcome, reason = (await ended(world))["p00"]
            assert outcome == Outcome.TIMED_OUT
            assert reason.endswith("it refuses: assignment: unknown field `windows`")

        hub(tmp_path, scenario)
