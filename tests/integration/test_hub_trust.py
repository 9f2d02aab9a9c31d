"""The hub's repository on real SQLite: which releases are taken, which are refused and why, and who is told."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from cloud.errors import ConflictError, InvalidError
from cloud.service import registry
from cloud.service.trust.rows import current_root, file, newest, store
from cloud.tables import versions
from simulator.fakes.tuf_repository import new_key
from tests.scenes.hub_steps import hub, released, train_order
from tests.scenes.trust_steps import (
    BIN,
    FAR,
    PATH,
    adopt,
    deliver,
    everything,
    targets,
    version,
    waiting,
)
from tests.worlds.hub_world import MODEL, World
from wire.adapters.keys import verifiers
from wire.adapters.tuf_metadata import check_snapshot, make_bin, make_targets
from wire.asks import MAX_PIECE_BYTES, AskMetadata, AskTime, MetadataPiece, SignedTime, TimeTold
from wire.codec import decode
from wire.dsse import TIME_TYPE, unseal
from wire.trust import Standing, Target, bin_of, bin_roles, target_path


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
            known = await targets(world, role)
            files = {role: make_bin(4 + (role == BIN), expiry, {**known, **lost}, key)}
            with pytest.raises(InvalidError, match="nothing but the release"):
                await deliver(world, files)
            await deliver(world, files, restored=True)
            numbers = await world.store.read(lambda conn: registry.next_numbers(conn, MODEL))
            assert (numbers.version, numbers.counter) == (8, 13)

        hub(tmp_path, scenario)


class TestAnswers:
    """What devices are told."""

    def test_metadata_comes_in_pieces_and_what_is_not_there_is_not_found(self, tmp_path: Path) -> None:
        """Every file by its name, from any offset; a path is no name."""

        async def scenario(world: World) -> None:
            look = world.trust.looks()[AskMetadata]

            async def answer(ask: AskMetadata) -> Any:
                (found,) = await world.store.read(lambda conn: look.find(conn, [ask]))
                return look.reply("p01", ask, found)

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
            look, ask = world.trust.looks()[AskTime], AskTime(nonce="ab" * 16)
            (found,) = await world.store.read(lambda conn: look.find(conn, [ask]))
            told = look.reply("p01", ask, found)
            assert isinstance(told, TimeTold)
            payload = unseal(told.envelope, TIME_TYPE, verifiers([world.director.public_hex]), limit=4096)
            assert decode(payload, SignedTime) == SignedTime(device="p01", nonce="ab" * 16, now_ns=world.clock.ns)

        hub(tmp_path, scenario)
