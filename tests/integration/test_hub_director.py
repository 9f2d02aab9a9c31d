"""Desired documents and retained chunks: numbered, signed, published again, kept while they are needed."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from cloud.core.rollout import Wave
from cloud.service import director
from cloud.service.blobs import Blobs
from cloud.tables import versions
from tests.scenes.hub_steps import a_hub, fleet, hub, newest, newest_after_report, roll_out, state
from tests.worlds.hub_world import ROOT, World, as_json, inbound
from wire.assignment import assignment_digest
from wire.codec import encode
from wire.messages import Phase
from wire.ports import LinkError
from wire.transfer.chunks import frame


class TestDirector:
    """Sequences and signatures."""

    def test_sequences_grow_even_after_the_database_was_restored(self, tmp_path: Path) -> None:
        """A device that has accepted a higher sequence than we know gets a still higher one, with the same slots."""

        async def scenario(world: World) -> None:
            await fleet(world, 1)
            await roll_out(world)
            await world.tick()
            first = await world.desired("p00")
            await world.report("p00")
            future = as_json(await newest(world, "p00")) | {"seq": 50, "sequence": 41}
            await world.receive((ROOT.up("p00", "reported"), encode(future)))
            await world.store.write(lambda conn: director.reissue_outdated(conn, world.seal, 5))
            again = await world.desired("p00")
            assert (first.sequence, again.sequence) == (1, 42)
            assert again.slots == first.slots

        hub(tmp_path, scenario)

    def test_what_somebody_else_wrote_under_our_number_is_replaced(self, tmp_path: Path) -> None:
        """A thief knew the next number, or we gave it before we were restored: the number alone looks like ours."""

        async def scenario(world: World) -> None:
            await fleet(world, 1)
            await roll_out(world)
            await world.tick()
            first, told = await world.desired("p00"), await newest_after_report(world, "p00")
            assert told["digest"] == assignment_digest(encode(first))
            assert await world.store.read(director.outdated) == []
            for seq, others in ((50, ""), (51, "0123456789abcdef")):  # an agent of before tells no digest
                await world.receive((ROOT.up("p00", "reported"), encode(told | {"seq": seq, "digest": others})))
                assert await world.store.read(director.outdated) == (["p00"] if others else [])
            await world.store.write(lambda conn: director.reissue_outdated(conn, world.seal, 5))
            again = await world.desired("p00")
            assert (first.sequence, again.sequence, again.slots) == (1, 2, first.slots)
            assert await world.store.read(director.outdated) == []

        hub(tmp_path, scenario)

    def test_a_wave_larger_than_a_portion_is_assigned_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its documents are made by portions; nobody of the wave is left out."""
        monkeypatch.setattr(director, "AT_ONCE", 2)

        async def scenario(world: World) -> None:
            names = await fleet(world, 5)
            await roll_out(world, waves=(Wave(percent=100),))
            await world.tick()
            assert [(await world.desired(name)).sequence for name in names] == [1] * 5

        hub(tmp_path, scenario)

    def test_a_running_hub_notices_that_it_was_restored(self, tmp_path: Path) -> None:
        """Devices say how far they were only after the hub is up."""

        async def scenario(world: World) -> None:
            await fleet(world, 1)
            await roll_out(world)
            await world.tick()
            report = await newest_after_report(world, "p00")
            scheduled: list[Callable[[], None]] = []
            running = asyncio.create_task(a_hub(world, scheduled).run())
            await asyncio.sleep(0)
            world.link.on_message(inbound(ROOT.up("p00", "reported"), encode(report | {"seq": 2, "sequence": 41}), []))
            async with asyncio.timeout(5):
                while (await world.desired("p00")).sequence < 42:
                    for ring in (*scheduled, *world.clock.alarms):
                        ring()
                    await asyncio.sleep(0.005)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            assert (await world.desired("p00")).sequence == 42

        hub(tmp_path, scenario)

    def test_what_was_not_accepted_is_published_again_and_only_that(self, tmp_path: Path) -> None:
        """Until the device reports the sequence."""

        async def scenario(world: World) -> None:
            await fleet(world, 2)
            await roll_out(world, waves=(Wave(percent=100),))
            await world.tick()
            for device in ("p00", "p01"):
                await world.online(device)
            await world.report("p00")
            effects = await world.store.read(lambda conn: director.unconfirmed(conn, ROOT))
            assert [one.topic for one in effects.publishes] == [ROOT.dn("p01", "desired")]
            assert effects.publishes[0].retain
            whole = await world.store.read(lambda conn: director.everything(conn, ROOT))
            assert len(whole.publishes) == 2

        hub(tmp_path, scenario)


class TestBlobs:
    """Retained chunks follow the need."""

    def test_chunks_are_published_while_needed_and_cleared_afterwards(self, tmp_path: Path) -> None:
        """Also when the broker or the link fails half way, or the hub restarts in between."""

        async def scenario(world: World) -> None:
            await fleet(world, 1)
            blobs = Blobs(world.store, world.objects, world.link, ROOT)
            await blobs.sync()
            assert world.link.retained == {}
            await roll_out(world)
            await world.tick()
            world.link.publishes_left = 1
            with pytest.raises(LinkError):
                await blobs.sync()
            world.link.connected, world.link.publishes_left = True, None
            await blobs.sync()
            slot = (await world.desired("p00")).slots[0]
            envelope = await world.objects.get(slot.release.sha256)
            assert world.link.retained[ROOT.blob(slot.release.sha256, 0)] == frame(envelope, 0)
            golden = as_json((await world.store.read(lambda conn: conn.execute(select(versions)).one())).release)
            needed = (slot.release.sha256, slot.sha256, golden["companions"]["golden"]["sha256"])
            assert set(world.link.retained) == {ROOT.blob(sha256, 0) for sha256 in needed}
            held = dict(world.link.retained)
            world.link.retained.clear()
            blobs.broker_forgot()
            await blobs.sync()
            assert world.link.retained == held
            await world.report("p00")
            await world.tick()
            await Blobs(world.store, world.objects, world.link, ROOT).sync()
            assert world.link.retained == {}

        hub(tmp_path, scenario)

    def test_reset_hardware_still_gets_its_model_after_the_rollout(self, tmp_path: Path) -> None:
        """Its assignment is retained; so are the objects, until it has them."""

        async def scenario(world: World) -> None:
            await fleet(world, 1)
            await roll_out(world)
            await world.tick()
            await world.report("p00")
            await world.tick()
            blobs = Blobs(world.store, world.objects, world.link, ROOT)
            await blobs.sync()
            assert ((await state(world))[0], world.link.retained) == ("succeeded", {})
            wanted = (await world.desired("p00")).slots[0].sha256
            for phase in (Phase.FETCHING_RELEASE, Phase.FETCHING, Phase.VERIFYING):
                await world.report("p00", outcome=None, phase=phase)
                await blobs.sync()
                assert ROOT.blob(wanted, 0) in world.link.retained
            await world.report("p00")
            await blobs.sync()
            assert world.link.retained == {}

        hub(tmp_path, scenario)
