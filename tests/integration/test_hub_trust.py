"""The hub's repository on real SQLite: what is taken, what is refused and why, what is signed again, who follows."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from cloud.errors import ConflictError, InvalidError
from cloud.service import registry
from cloud.service.trust import deliveries
from cloud.service.trust.freshness import refresh
from cloud.service.trust.rows import current_root, file, newest, store
from cloud.tables import desired, trust_metadata, versions
from simulator.fakes.tuf_repository import new_key
from simulator.publisher import SimulatedPublisher
from tests.hub_steps import fleet, hub, released, request_id, roll_out, train_order
from tests.hub_world import KEYS, MODEL, World
from wire.adapters.keys import SigningKey, verifiers
from wire.adapters.tuf_metadata import check_snapshot, check_timestamp, make_bin, make_targets
from wire.adapters.tuf_root import check_root, keys_of, make_root, sign_root
from wire.asks import MAX_PIECE_BYTES, AskMetadata, AskTime, MetadataPiece, SignedTime, TimeTold
from wire.codec import decode
from wire.dsse import ASSIGNMENT_TYPE, TIME_TYPE, unseal
from wire.ports import SECOND
from wire.release import Release, object_ref
from wire.trust import DAY_S, ROOT_LIFE_S, TARGETS_LIFE_S, Standing, Target, bin_of, bin_roles, target_path

PATH = target_path(MODEL, 1)
BIN = bin_of(PATH)
FAR = TARGETS_LIFE_S * SECOND


async def version(world: World, role: str) -> int:
    """Newest version of a role; 0 = none."""
    row = await world.store.read(lambda conn: newest(conn, role))
    return 0 if row is None else int(row.version)


async def everything(world: World) -> list[tuple[str, int, bytes]]:
    """The whole repository, to see that a refusal changes nothing."""
    query = select(trust_metadata.c.role, trust_metadata.c.version, trust_metadata.c.content)
    rows = await world.store.read(lambda conn: conn.execute(query.order_by(trust_metadata.c.role, "version")).all())
    return [tuple(row) for row in rows]


async def next_root(world: World, *, signed_by: tuple[str, ...] = ("root 1", "root 2"), **changes: Any) -> bytes:
    """A root after the present one, with changed keys, signed by these of the world's keys."""
    before = await world.store.read(current_root)
    keys = replace(keys_of(before), **changes)
    root = make_root(await version(world, "root") + 1, world.clock.ns + FAR, keys)
    for name in signed_by:
        root = sign_root(root, world.keys[name])
    return root


async def adopt(world: World, root: bytes) -> None:
    """An administrator hands the root in, and the hub looks at what that means."""
    now_ns = world.clock.now_ns()
    await world.store.write(lambda conn: deliveries.adopt_root(conn, world.notary, root, "admin", now_ns))
    await world.trust.look()


async def deliver(world: World, files: Mapping[str, bytes], *, restored: bool = False) -> None:
    """The publisher hands in what it signed anew."""
    now_ns = world.clock.now_ns()
    await world.store.write(
        lambda conn: deliveries.deliver(conn, world.notary, files, "publisher", now_ns, restored=restored)
    )


async def waiting(world: World) -> tuple[str, Target]:
    """A version that waits for its signature: id of the request, and the target that it should become."""
    await train_order(world)
    await world.train()
    request = await request_id(world)
    row = await world.store.read(lambda conn: conn.execute(select(versions)).one())
    ref = object_ref(row.release)
    return request, Target(ref.bytes, ref.sha256, decode(row.release, Release).counter)


class TestReleases:
    """What it takes to release a version."""

    def test_a_release_is_a_target_of_a_new_snapshot_at_once(self, tmp_path: Path) -> None:
        """One transaction: bin, snapshot, timestamp, version; and the release is an object by its own digest."""

        async def scenario(world: World) -> None:
            await train_order(world)
            before = [await version(world, role) for role in (BIN, "snapshot", "timestamp")]
            await released(world)
            after = [await version(world, role) for role in (BIN, "snapshot", "timestamp")]
            assert after == [one + 1 for one in before]
            root, data = await world.store.read(lambda conn: (current_root(conn), newest(conn, "snapshot").content))
            assert check_snapshot(data, root)[1][BIN].version == 2
            row = await world.store.read(lambda conn: conn.execute(select(versions)).one())
            assert (row.state, row.release_ref["bytes"]) == ("released", len(row.release))
            assert await world.objects.get(row.release_ref["sha256"]) == row.release

        hub(tmp_path, scenario)

    @pytest.mark.parametrize(
        "case", ["foreign key", "replay", "jump", "other target", "stowaway", "other bin", "expired"]
    )
    def test_a_signature_that_is_not_exactly_right_changes_nothing(self, tmp_path: Path, case: str) -> None:
        """Each refusal names what is wrong; the version goes on waiting, the repository stays as it was."""
        words = {
            "foreign key": "no key that may sign it",
            "replay": "is not the release",
            "jump": "version 3 does not follow version 1",
            "other target": "is not the release of the signing request",
            "stowaway": "nothing but the release may differ",
            "other bin": "belongs into",
            "expired": "has expired already",
        }

        async def scenario(world: World) -> None:
            request, target = await waiting(world)
            key, expiry = world.keys["publisher"], world.clock.ns + FAR
            wrong = replace(target, counter=target.counter + 1)
            other = next(role for role in bin_roles() if role != BIN)
            files = {
                "foreign key": {BIN: make_bin(2, expiry, {PATH: target}, new_key())},
                "replay": {BIN: (await world.store.read(lambda conn: newest(conn, BIN))).content},
                "jump": {BIN: make_bin(3, expiry, {PATH: target}, key)},
                "other target": {BIN: make_bin(2, expiry, {PATH: wrong}, key)},
                "stowaway": {BIN: make_bin(2, expiry, {PATH: target, "zz/9.json": target}, key)},
                "other bin": {other: make_bin(2, expiry, {PATH: target}, key)},
                "expired": {BIN: make_bin(2, world.clock.ns, {PATH: target}, key)},
            }[case]
            before = await everything(world)
            with pytest.raises(InvalidError, match=words[case]):
                await world.sign(request, files)
            assert await everything(world) == before
            state = await world.store.read(lambda conn: conn.scalar(select(versions.c.state)))
            assert state == "awaiting_signature"
            await world.sign(request)

        hub(tmp_path, scenario)

    def test_without_a_root_or_signed_targets_nothing_is_released(self, tmp_path: Path) -> None:
        """First the command to run, then what is missing."""

        async def scenario() -> None:
            async with World(tmp_path, rooted=False) as world:
                request, _ = await waiting(world)
                with pytest.raises(ConflictError, match="fleetloop keys init"):
                    await world.sign(request)
                root, documents = world.publisher.root, world.publisher.documents()
                await adopt(world, root)
                with pytest.raises(ConflictError, match="sign targets before any bin"):
                    await world.sign(request)
                await deliver(world, {"targets": documents["targets"]})
                with pytest.raises(ConflictError, match="all bins"):
                    await world.sign(request)
                assert await version(world, "timestamp") == 0

        asyncio.run(scenario())

    def test_a_renewal_may_not_smuggle(self, tmp_path: Path) -> None:
        """What was only signed again lists what it listed; roles that are not the publisher's are refused."""

        async def scenario(world: World) -> None:
            key, expiry = world.keys["publisher"], world.clock.ns + FAR
            target = Target(1, "1" * 64, 1)
            with pytest.raises(InvalidError, match="nothing but the release"):
                await deliver(world, {BIN: make_bin(2, expiry, {PATH: target}, key)})
            with pytest.raises(InvalidError, match="not 'snapshot'"):
                await deliver(world, {"snapshot": b"{}"})
            with pytest.raises(InvalidError, match="targets: no key"):
                await deliver(world, {"targets": make_targets(2, expiry, world.keys["online"])})
            await deliver(world, {BIN: make_bin(2, expiry, {}, key), "targets": make_targets(2, expiry, key)})
            assert (await version(world, BIN), await version(world, "targets")) == (2, 2)

        hub(tmp_path, scenario)


class TestRestoredHub:
    """The database came back from a backup, older than the last release."""

    def test_it_takes_what_it_has_lost_only_when_told_and_gives_no_number_away_twice(self, tmp_path: Path) -> None:
        """The publisher hands in bins that are several versions on; the next version of the model is above them."""

        async def scenario(world: World) -> None:
            await train_order(world)
            await released(world)
            key, expiry = world.keys["publisher"], world.clock.ns + FAR
            lost = {target_path(MODEL, 7): Target(9, "9" * 64, 12)}
            role = bin_of(target_path(MODEL, 7))
            known = await _targets(world, role)
            files = {role: make_bin(4 + (role == BIN), expiry, {**known, **lost}, key)}
            with pytest.raises(InvalidError, match="nothing but the release"):
                await deliver(world, files)
            await deliver(world, files, restored=True)
            numbers = await world.store.read(lambda conn: registry.next_numbers(conn, MODEL))
            assert (numbers.version, numbers.counter) == (8, 13)

        hub(tmp_path, scenario)


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
            old = (await world.desired("p00" if await _assigned(world, "p00") else "p01")).sequence
            fresh = new_key()
            root = await next_root(world, director=(fresh.public_hex,))
            world.notary._ring = lambda: [world.director, fresh]
            await adopt(world, root)
            rows = await world.store.read(lambda conn: conn.execute(select(desired)).all())
            assert rows
            for row in rows:
                assert unseal(row.envelope, ASSIGNMENT_TYPE, verifiers([fresh.public_hex]), limit=16_384)
                assert row.sequence > old
            await world.trust.look()
            again = await world.store.read(lambda conn: conn.execute(select(desired)).all())
            assert [row.sequence for row in again] == [row.sequence for row in rows]

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
            signed = everything_by(targets_key, 1, await _targets(world), world.clock.ns + FAR)
            if not restart:
                with pytest.raises(InvalidError, match="not above 1, which devices have seen"):
                    await deliver(world, signed)
                signed = everything_by(targets_key, 3, await _targets(world), world.clock.ns + FAR)
            await deliver(world, signed)
            listed = await world.store.read(
                lambda conn: check_snapshot(newest(conn, "snapshot").content, current_root(conn))[1]
            )
            assert {one.version for one in listed.values()} == {1 if restart else 3}

        hub(tmp_path, scenario)


class TestAnswers:
    """What devices are told."""

    def test_metadata_comes_in_pieces_and_what_is_not_there_is_not_found(self, tmp_path: Path) -> None:
        """Every file by its name, from any offset; a path is no name."""

        async def scenario(world: World) -> None:
            look = world.trust.looks()[AskMetadata]

            async def answer(ask: AskMetadata) -> Any:
                return await world.store.read(lambda conn: look(conn, ask))

            whole = await world.store.read(lambda conn: file(conn, "timestamp.json"))
            piece = await answer(AskMetadata(name="timestamp.json"))
            assert piece == MetadataPiece(found=True, total=len(whole), offset=0, data=whole)
            tail = await answer(AskMetadata(name="timestamp.json", offset=len(whole) - 3))
            assert tail.data == whole[-3:]
            assert (await answer(AskMetadata(name="1.root.json"))).data == world.publisher.root
            for name in ("2.root.json", "root.json", "1.timestamp.json", "9.nothing.json"):
                assert not (await answer(AskMetadata(name=name))).found
            many = {f"m/{number}.json": Target(1, "1" * 64, number) for number in range(1, 400)}
            long = make_bin(2, FAR, many, world.keys["publisher"])
            await world.store.write(lambda conn: store(conn, "bin-0", Standing(2, FAR), long, 1))
            got = b""
            while len(got) < len(long):
                piece = await answer(AskMetadata(name="2.bin-0.json", offset=len(got)))
                assert 0 < len(piece.data) <= MAX_PIECE_BYTES
                got += piece.data
            assert got == long

        hub(tmp_path, scenario)

    def test_time_is_told_to_one_device_for_one_question(self, tmp_path: Path) -> None:
        """Signed by the director, with the nonce."""

        async def scenario(world: World) -> None:
            told = await world.trust.handlers()[AskTime]("p01", AskTime(nonce="ab" * 16))
            assert isinstance(told, TimeTold)
            payload = unseal(told.envelope, TIME_TYPE, verifiers([world.director.public_hex]), limit=4096)
            assert decode(payload, SignedTime) == SignedTime(device="p01", nonce="ab" * 16, now_ns=world.clock.ns)

        hub(tmp_path, scenario)


def everything_by(key: SigningKey, number: int, targets: Mapping[str, Target], expiry: int) -> dict[str, bytes]:
    """Targets and bins of this version, by this key."""
    bins = {
        role: make_bin(number, expiry, {path: one for path, one in targets.items() if bin_of(path) == role}, key)
        for role in bin_roles()
    }
    return {"targets": make_targets(number, expiry, key), **bins}


async def _targets(world: World, role: str = BIN) -> Mapping[str, Target]:
    row = await world.store.read(lambda conn: newest(conn, role))
    return world.notary.read_bin(row.content, role).targets


async def _assigned(world: World, device: str) -> bool:
    count = select(func.count()).select_from(desired).where(desired.c.device == device)
    return bool(await world.store.read(lambda conn: conn.scalar(count)))


def test_a_root_vouches_for_the_first_one_only_by_itself(tmp_path: Path) -> None:
    """An administrator brings it; from then on it takes the holders of the root keys."""

    async def scenario(world: World) -> None:
        assert check_root(await world.store.read(current_root), None).version == 1
        await adopt(world, await world.store.read(current_root))
        assert await version(world, "root") == 1
        await world.store.write(lambda conn: refresh(conn, world.notary, world.clock.ns))

    hub(tmp_path, scenario)
