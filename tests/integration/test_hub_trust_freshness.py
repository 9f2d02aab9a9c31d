"""What the hub signs again before it expires, on real SQLite."""

import asyncio
from pathlib import Path

import pytest

from cloud.service.trust.rows import current_root, newest
from cloud.tables import trust_metadata
from simulator.fakes.tuf_repository import new_key
from tests.scenes.hub_steps import hub
from tests.scenes.trust_steps import (
    everything,
    version,
)
from tests.worlds.hub_world import World
from wire.adapters.tuf_metadata import check_timestamp
from wire.ports import SECOND
from wire.trust import DAY_S, ROOT_LIFE_S


class TestFreshness:
    """What the hub signs itself."""

    def test_the_timestamp_is_signed_again_at_half_its_life_and_only_then(self, tmp_path: Path) -> None:
        """After the start of another hub on the same database, too; a snapshot lives for a week."""

        async def scenario(world: World) -> None:
            first = [await version(world, role) for role in ("timestamp", "snapshot")]
            world.clock.ns += 11 * 3600 * SECOND
            await world.trust.look()
            assert [await version(world, role) for role in ("timestamp", "snapshot")] == first
            world.clock.ns += 2 * 3600 * SECOND
            await world.trust.look()
            assert await version(world, "timestamp") > first[0]
            assert await version(world, "snapshot") == first[1]
            world.clock.ns += 3 * DAY_S * SECOND
            await world.trust.look()
            assert await version(world, "snapshot") > first[1]
            root, data = await world.store.read(lambda conn: (current_root(conn), newest(conn, "timestamp").content))
            assert check_timestamp(data, root).expires_ns == world.clock.ns // SECOND * SECOND + DAY_S * SECOND

        hub(tmp_path, scenario)

    def test_a_lone_hub_looks_when_something_is_due_and_not_before(self, tmp_path: Path) -> None:
        """What it enters, it signs in the same transaction: time alone brings more. A look that failed is no look."""

        async def rings(world: World) -> bool:
            world.trust.remind()
            try:
                async with asyncio.timeout(0.01):
                    await world.trust.woken()
            except TimeoutError:
                return False
            return True

        async def scenario(world: World) -> None:
            assert await rings(world)
            await world.trust.look()
            assert not await rings(world)
            world.clock.ns += 12 * 3600 * SECOND + 2 * SECOND
            assert await rings(world)
            await world.trust.look()
            assert not await rings(world)

        hub(tmp_path, scenario)

    def test_a_restored_backup_goes_on_above_what_was_published(self, tmp_path: Path) -> None:
        """Devices have seen a higher timestamp than the database knows; the next one is above it all the same."""

        async def scenario(world: World) -> None:
            backup = await everything(world)
            world.clock.ns += 20 * 3600 * SECOND
            await world.trust.look()
            seen = await version(world, "timestamp")
            await world.store.write(
                lambda conn: conn.execute(trust_metadata.delete().where(trust_metadata.c.version >= seen))
            )
            assert await everything(world) == backup
            world.clock.ns += SECOND
            await world.trust.look()
            assert await version(world, "timestamp") > seen

        hub(tmp_path, scenario)

    def test_what_a_person_has_to_do_is_said_once(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """No root yet, a lost online key, a root that ends soon."""

        async def scenario() -> None:
            async with World(tmp_path, rooted=False) as world:
                for _ in range(2):
                    await world.trust.look()
                await world.store.write(world.found)
                online, world.keys["online"] = world.keys["online"], new_key()
                world.clock.ns += DAY_S * SECOND
                for _ in range(2):
                    await world.trust.look()
                world.keys["online"] = online
                world.clock.ns += (ROOT_LIFE_S - 30 * DAY_S) * SECOND
                for _ in range(2):
                    await world.trust.look()

        asyncio.run(scenario())
        said = [record.getMessage() for record in caplog.records]
        for words in ("fleetloop keys init", "none of the online keys", "ends within 60 days"):
            assert len([one for one in said if words in one]) == 1, said
