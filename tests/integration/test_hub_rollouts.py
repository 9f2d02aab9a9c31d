"""Rollouts on real SQLite: waves, gates, late joiners, commands."""

import re
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from cloud.api.rollout_views import rollout_view
from cloud.core.rollout import Command, Plan, Wave
from cloud.errors import ConflictError, InvalidError
from cloud.service import enrolment, holds, revocation
from cloud.service import rollouts as rollout_service
from cloud.service.effects import NOTHING, Effects
from cloud.service.enrolment import NewClaim
from cloud.service.registry import refuse
from cloud.service.rollouts import NewRollout, joining
from cloud.tables import members
from tests.scenes.hub_steps import WAVES, fleet, hub, quiet, request_id, roll_out, state, train_order, waiting
from tests.worlds.hub_world import MODEL, ROOT, World
from wire.messages import Outcome


class TestRollouts:
    """Waves over a real database."""

    def test_wave_by_wave_to_the_end(self, tmp_path: Path) -> None:
        """One, then half, then all; each behind what the devices reported."""

        async def scenario(world: World) -> None:
            await fleet(world, 6)
            await roll_out(world)
            sizes = []
            for _ in range(3):
                await world.tick()
                out = await waiting(world)
                sizes.append(len(out))
                for device in out:
                    await world.report(device)
            await world.tick()
            assert sizes == [1, 2, 3]
            assert (await state(world))[0] == "succeeded"

        hub(tmp_path, scenario)

    def test_a_failing_canary_halts_and_nobody_else_is_touched(self, tmp_path: Path) -> None:
        """Resume acknowledges the failure; a new one would halt again."""

        async def scenario(world: World) -> None:
            await fleet(world, 4)
            await roll_out(world)
            await world.tick()
            await world.report((await waiting(world))[0], Outcome.ROLLED_BACK, reason="crashed")
            await world.tick()
            status, _, reason = await state(world)
            assert status == "halted"
            assert "1 of 1 completed executions failed" in reason
            assert await waiting(world) == []
            await world.change(lambda conn, now_ns: rollout_service.control(conn, "r1", Command.RESUME, "me", now_ns))
            await world.tick()
            assert len(await waiting(world)) == 1

        hub(tmp_path, scenario)

    def test_an_unsigned_or_refused_version_cannot_roll_out(self, tmp_path: Path) -> None:
        """The error says what is missing."""

        async def scenario(world: World) -> None:
            await world.enrol("p00")
            await train_order(world)
            await world.train()
            with pytest.raises(ConflictError, match="not signed"):
                await roll_out(world)
            request = await request_id(world)
            await world.change(lambda conn, now_ns: refuse(conn, request, "too slow", "publisher", now_ns))
            with pytest.raises(ConflictError, match="too slow"):
                await roll_out(world)

        hub(tmp_path, scenario)

    def test_one_active_rollout_per_device_and_slot(self, tmp_path: Path) -> None:
        """The conflict names the rollout; devices outside it are free; after abort all are."""

        async def scenario(world: World) -> None:
            await fleet(world, 4)
            await roll_out(world, "r1", arm="left")
            with pytest.raises(ConflictError, match="r1"):
                await roll_out(world, "r2")
            await roll_out(world, "r3", arm="right")
            for one in ("r1", "r3"):
                await world.change(
                    lambda conn, now_ns, one=one: rollout_service.control(conn, one, Command.ABORT, "me", now_ns)
                )
            await roll_out(world, "r4")

        hub(tmp_path, scenario)

    def test_a_selector_that_matches_nobody_is_refused(self, tmp_path: Path) -> None:
        """So is a variant that the version does not have."""

        async def scenario(world: World) -> None:
            await fleet(world, 1)
            with pytest.raises(InvalidError, match=r"nobody can take part: devices that match arm=third: 0$"):
                await roll_out(world, arm="third")
            new = NewRollout("r9", MODEL, 1, "main", {}, "int4", Plan(WAVES))
            with pytest.raises(InvalidError, match="int8"):
                await world.change(lambda conn, now_ns: rollout_service.create(conn, new, "test", now_ns))

        hub(tmp_path, scenario)

    def test_what_keeps_everybody_out_is_counted(self, tmp_path: Path) -> None:
        """Devices that are not of the fleet, held or pinned; and of those that are free, how many are under way."""

        async def scenario(world: World) -> None:
            await fleet(world, 5)
            await world.enrol("p98", arm="left")

            def keep(conn: Connection, now_ns: int) -> Effects:
                holds.hold(conn, "p00", "being measured", "me", now_ns)
                holds.pin(conn, ("p01", "main"), (MODEL, 7), "certified", ("me", now_ns))
                revocation.revoke(conn, "p98", "stolen", ("me", now_ns), ROOT)
                enrolment.claim(conn, NewClaim("p99", {"arm": "left"}, False, "t" * 32), "me", now_ns)
                return NOTHING

            await world.change(keep)
            kept = "1 held, 1 not enrolled yet, 1 pinned to another version in slot 'main', 1 revoked"
            with pytest.raises(InvalidError, match=re.escape(f"devices that match arm=left: 4 ({kept})")):
                await roll_out(world, arm="left")
            await roll_out(world, "r1", arm="right")
            await world.enrol("p97", arm="middle")
            with pytest.raises(ConflictError, match=r"^3 of 4 devices .* such as p02 in rollout r1"):
                await roll_out(world, "r2")

        hub(tmp_path, scenario)

    def test_late_joiners_come_under_the_same_waves(self, tmp_path: Path) -> None:
        """A device that enrols during the rollout is reached before it ends."""

        async def scenario(world: World) -> None:
            await fleet(world, 3)
            await roll_out(world)
            await world.tick()
            await world.enrol("p99", arm="left")
            for _ in range(5):
                await world.tick()
                for device in await waiting(world):
                    await world.report(device)
            assert (await state(world))[0] == "succeeded"
            assert (await world.desired("p99")).slots[0].version == 1

        hub(tmp_path, scenario)

    def test_a_large_fleet_is_looked_through_in_turn(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """However it is divided, whoever joins is found within one turn, and the next turn begins with the first."""
        monkeypatch.setattr(joining, "LOOKED_AT_ONCE", 2)

        async def scenario(world: World) -> None:
            await fleet(world, 3)
            await roll_out(world)
            for name in ("p99", "a00"):  # the last one of the first turn, the first one of the next
                await world.enrol(name, arm="left")
                for _ in range(3):
                    await world.tick()
                query = select(members.c.device).where(members.c.device == name)
                assert await world.store.read(partial(Connection.scalar, statement=query)) == name

        hub(tmp_path, scenario)

    def test_nobody_is_missed_by_a_rollout_that_ends_before_its_look_has_come_round(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The last look is a whole one: it succeeds with the newcomer, not without."""
        monkeypatch.setattr(joining, "LOOKED_AT_ONCE", 1)

        async def scenario(world: World) -> None:
            await fleet(world, 3)
            await roll_out(world, waves=(Wave(percent=100),))
            await world.tick()
            for name in await waiting(world):
                await world.report(name)
            await world.enrol("p99", arm="left")
            await world.tick()
            assert await waiting(world) == ["p99"]
            assert (await state(world))[0] == "running"
            await world.report("p99")
            await world.tick()
            assert (await state(world))[0] == "succeeded"

        hub(tmp_path, scenario)

    def test_devices_beyond_the_last_wave_stay_left_alone(self, tmp_path: Path) -> None:
        """They are no late joiners: a rollout to five of twenty reaches five."""

        async def scenario(world: World) -> None:
            await fleet(world, 20)
            await roll_out(world, waves=(Wave(count=5),))
            for _ in range(3):
                await world.tick()
            assert len(await waiting(world)) == 5

        hub(tmp_path, scenario)

    def test_a_success_after_an_acknowledged_timeout_counts_as_one(self, tmp_path: Path) -> None:
        """The device was only late: nothing of its failure is left."""

        async def scenario(world: World) -> None:
            await fleet(world, 1)
            await roll_out(world)
            await world.tick()
            await quiet(world, 700)
            assert (await state(world))[0] == "halted"
            await world.change(lambda conn, now: rollout_service.control(conn, "r1", Command.RESUME, "me", now))
            await world.report("p00")
            view = await world.store.read(lambda conn: rollout_view(conn, "r1"))
            assert (view.committed, view.failed) == (1, 0)

        hub(tmp_path, scenario)
