"""The root of trust on real SQLite: how keys are replaced, and what is signed anew, in time and by whom."""

from pathlib import Path

import pytest
from sqlalchemy import select

from cloud.errors import InvalidError
from cloud.service.trust.freshness import refresh
from cloud.service.trust.rows import current_root, newest
from cloud.tables import desired, devices
from simulator.fakes.tuf_repository import new_key
from simulator.publisher import SimulatedPublisher
from tests.scenes.hub_steps import fleet, hub, released, roll_out, train_order
from tests.scenes.trust_steps import (
    FAR,
    adopt,
    assigned,
    deliver,
    everything,
    everything_by,
    next_root,
    targets,
    version,
)
from tests.worlds.hub_world import KEYS, World
from wire.adapters.keys import verifiers
from wire.adapters.tuf_metadata import check_snapshot, check_timestamp
from wire.adapters.tuf_root import check_root, keys_of, make_root, sign_root
from wire.dsse import ASSIGNMENT_TYPE, unseal


class TestRootRotation:
    """Two of three offline keys replace any other key."""

    @pytest.mark.parametrize("case", ["foreign", "one of two", "gap", "no key of this hub", "replay"])
    def test_a_root_that_may_not_follow_is_refused(self, tmp_path: Path, case: str) -> None:
        """Nothing changes."""
        words = {
            "foreign": "0 of 2 signatures",
            "one of two": "1 of 2 signatures that the root before it wants",
            "gap": "does not follow",
            "no key of this hub": "put the file of the new key",
            "replay": "does not follow",
        }

        async def scenario(world: World) -> None:
            first = await world.store.read(current_root)
            root = await next_root(world)
            keys = {name: new_key() for name in KEYS}
            stranger = SimulatedPublisher(keys, "a" * 64, "b" * 64, world.clock.now_ns)
            if case in ("gap", "replay"):
                await adopt(world, root)
            wrong = {
                "foreign": sign_root(make_root(2, world.clock.ns + FAR, keys_of(stranger.root)), keys["root 1"]),
                "one of two": await next_root(world, signed_by=("root 1",)),
                "gap": sign_root(make_root(5, FAR, keys_of(root)), world.keys["root 1"]),
                "no key of this hub": await next_root(world, online=(new_key().public_hex,)),
                "replay": first,
            }[case]
            before = await everything(world)
            with pytest.raises(InvalidError, match=words[case]):
                await adopt(world, wrong)
            assert await everything(world) == before

        hub(tmp_path, scenario)

    def test_a_new_online_key_signs_at_once_and_versions_go_on(self, tmp_path: Path) -> None:
        """Snapshot and timestamp of the new key follow in the same transaction; the old key signs no more."""

        async def scenario(world: World) -> None:
            before = [await version(world, role) for role in ("snapshot", "timestamp")]
            fresh = new_key()
            root = await next_root(world, online=(fresh.public_hex,))
            world.keys["online"] = fresh
            await adopt(world, root)
            snapshot, timestamp = await world.store.read(
                lambda conn: (newest(conn, "snapshot"), newest(conn, "timestamp"))
            )
            assert check_snapshot(snapshot.content, root)[0].version > before[0]
            assert check_timestamp(timestamp.content, root).version > before[1]

        hub(tmp_path, scenario)

    def test_a_new_director_key_signs_every_assignment_anew(self, tmp_path: Path) -> None:
        """With higher sequences, so that devices that know the new root accept them."""

        async def scenario(world: World) -> None:
            await fleet(world, 2)
            await roll_out(world)
            await world.tick()
            old = (await world.desired("p00" if await assigned(world, "p00") else "p01")).sequence
            fresh = new_key()
            root = await next_root(world, director=(fresh.public_hex,))
            world.notary._ring = lambda: [world.director, fresh]
            await adopt(world, root)
            query = select(desired, devices.c.desired_sequence).join(devices).order_by(desired.c.device)
            rows = await world.store.read(lambda conn: conn.execute(query).all())
            assert rows
            for row in rows:
                assert unseal(row.envelope, ASSIGNMENT_TYPE, verifiers([fresh.public_hex]), limit=16_384)
                assert row.desired_sequence > old
            await world.trust.look()
            assert await world.store.read(lambda conn: conn.execute(query).all()) == rows

        hub(tmp_path, scenario)

    @pytest.mark.parametrize("restart", [False, True])
    def test_a_new_targets_key_voids_what_the_old_one_signed(self, tmp_path: Path, restart: bool) -> None:
        """Until the publisher has signed all of it again nothing is released; versions go on.

        They begin anew only if the online key was replaced, too: otherwise devices remember what a snapshot listed.
        """

        async def scenario(world: World) -> None:
            await train_order(world)
            await released(world)
            targets_key, online_key = new_key(), new_key()
            snapshot = await version(world, "snapshot")
            await adopt(world, await next_root(world, targets=(targets_key.public_hex,)))
            if restart:
                world.keys["online"] = online_key
                await adopt(world, await next_root(world, online=(online_key.public_hex,)))
            assert await version(world, "snapshot") == snapshot
            signed = everything_by(targets_key, 1, await targets(world), world.clock.ns + FAR)
            if not restart:
                with pytest.raises(InvalidError, match="not above 1, which devices have seen"):
                    await deliver(world, signed)
                signed = everything_by(targets_key, 3, await targets(world), world.clock.ns + FAR)
            await deliver(world, signed)
            listed = await world.store.read(
                lambda conn: check_snapshot(newest(conn, "snapshot").content, current_root(conn))[1]
            )
            assert {one.version for one in listed.values()} == {1 if restart else 3}

        hub(tmp_path, scenario)


def test_a_root_vouches_for_the_first_one_only_by_itself(tmp_path: Path) -> None:
    """An administrator brings it; from then on it takes the holders of the root keys."""

    async def scenario(world: World) -> None:
        assert check_root(await world.store.read(current_root), None).version == 1
        await adopt(world, await world.store.read(current_root))
        assert await version(world, "root") == 1
        await world.store.write(lambda conn: refresh(conn, world.notary, world.clock.ns))

    hub(tmp_path, scenario)
