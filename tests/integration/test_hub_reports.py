"""Reports and telemetry on real SQLite: what is taken, what is refused, and that a refusal changes nothing."""

import asyncio
from pathlib import Path

from sqlalchemy import select

from cloud.core.rollout import Wave
from cloud.service import director
from cloud.service.effects import Wake
from cloud.service.inbox import Inbox
from cloud.tables import devices, members, slots, stats
from tests.scenes.hub_steps import (
    counters,
    fleet,
    hub,
    newest,
    newest_after_report,
    refusal,
    roll_out,
    row,
    telemetry,
    waiting,
)
from tests.worlds.hub_world import MODEL, ROOT, World, as_json, inbound
from wire.codec import decode, encode
from wire.messages import GoldenResult, Outcome, Receipt


class TestReports:
    """What is taken, and what is refused with its reason."""

    def test_a_report_is_receipted_and_a_repetition_too(self, tmp_path: Path) -> None:
        """The receipt of the first may have been lost."""

        async def scenario(world: World) -> None:
            await fleet(world, 1)
            await roll_out(world)
            await world.tick()
            for _ in range(2):
                effects = await world.report("p00", seq=5)
                assert effects.publishes[0].topic == ROOT.dn("p00", "receipt")
                assert decode(effects.publishes[0].payload, Receipt) == Receipt(channel="reported", seq=5)
            assert await refusal(world, "p00") == ""

        hub(tmp_path, scenario)

    def test_a_success_that_was_told_is_not_unsaid(self, tmp_path: Path) -> None:
        """A thief's orders undid it, and the hub's own could not be carried out again: the device went back."""

        async def scenario(world: World) -> None:
            await fleet(world, 1)
            await roll_out(world)
            await world.tick()
            for outcome in (Outcome.SUCCEEDED, Outcome.TIMED_OUT, Outcome.TIMED_OUT, Outcome.CANCELLED):
                await world.report("p00", outcome)
            ended = await world.store.read(lambda conn: conn.scalar(select(members.c.outcome)))
            assert ended == Outcome.ROLLED_BACK

        hub(tmp_path, scenario)

    def test_who_is_ahead_of_the_hub_is_looked_after_at_once(self, tmp_path: Path) -> None:
        """Whoever has accepted what the hub ordered is news that may wait."""

        async def scenario(world: World) -> None:
            await fleet(world, 1)
            await roll_out(world)
            await world.tick()
            first = await world.report("p00", None, phase="fetching")
            assert (Wake.LOOK in first.wakes, Wake.AHEAD in first.wakes) == (True, False)
            stolen = as_json(await newest(world, "p00")) | {"seq": 50, "sequence": 41}
            taken = await world.receive((ROOT.up("p00", "reported"), encode(stolen)))
            assert Wake.AHEAD in taken.wakes

        hub(tmp_path, scenario)

    def test_who_has_accepted_another_order_under_the_same_number_is_looked_after_at_once(self, tmp_path: Path) -> None:
        """It has told the number before; only the digest is another now."""

        async def scenario(world: World) -> None:
            await fleet(world, 1)
            await roll_out(world)
            await world.tick()
            await world.report("p00", None, phase="fetching")
            stolen = as_json(await newest(world, "p00")) | {"seq": 50, "digest": "0123456789abcdef"}
            assert Wake.AHEAD in (await world.receive((ROOT.up("p00", "reported"), encode(stolen)))).wakes

        hub(tmp_path, scenario)

    def test_bad_reports_change_nothing_and_name_the_reason(self, tmp_path: Path) -> None:
        """Stale, oversize, truncated, unknown field, wrong type, foreign success: the row stays as it was."""

        async def scenario(world: World) -> None:
            await fleet(world, 1)
            await roll_out(world)
            await world.tick()
            await world.report("p00", None, seq=7, phase="fetching")
            topic = ROOT.up("p00", "reported")
            good = as_json(await newest(world, "p00"))
            slot = good["slots"][0] | {"outcome": "succeeded", "current": None}
            runs = {"model": MODEL, "version": 1, "variant": "int8", "sha256": "ab" * 32}
            unproven = slot | {"current": runs, "golden": None}
            bad = {
                b"x" * 100_000: "100000 bytes",
                encode(good)[:-9]: "truncated",
                encode(good | {"seq": 8, "colour": "red"}): "colour",
                encode(good | {"seq": "eight"}): "seq",
                encode(good | {"seq": 3}): "stale report: sequence 3, but 7",
                encode(good | {"seq": 8, "slots": [slot]}): "but runs nothing",
                encode(good | {"seq": 8, "slots": [unproven]}): "without golden outputs",
            }
            before = await row(world, "p00")
            for payload, reason in bad.items():
                effects = await world.receive((topic, payload))
                mark = [encode(Receipt(channel="reported", seq=7))] if "stale" in reason else []
                assert [one.payload for one in effects.publishes] == mark
                assert reason in await refusal(world, "p00")
                assert await row(world, "p00") == before
            assert await waiting(world) == ["p00"]

        hub(tmp_path, scenario)

    def test_a_bad_message_does_not_spoil_its_batch(self, tmp_path: Path) -> None:
        """The others of the same transaction are taken."""

        async def scenario(world: World) -> None:
            await fleet(world, 3)
            await world.receive((ROOT.up("p01", "telemetry"), b"{"), (ROOT.up("p02", "telemetry"), telemetry(1, 10, 9)))
            assert await refusal(world, "p01")
            assert (await counters(world, "p02")).correct == 9

        hub(tmp_path, scenario)

    def test_telemetry_is_cumulative_and_never_goes_back(self, tmp_path: Path) -> None:
        """The newest counters count; a late older message is receipted again; impossible ones are refused."""

        async def scenario(world: World) -> None:
            await fleet(world, 2)
            topic = ROOT.up("p01", "telemetry")
            await world.receive((topic, telemetry(1, 10, 9)), (topic, telemetry(3, 30, 20)))
            effects = await world.receive((topic, telemetry(2, 20, 15)))
            assert effects.publishes[0].payload == encode(Receipt(channel="telemetry", seq=3))
            assert await refusal(world, "p01") == ""
            await world.receive((topic, telemetry(4, 5, 6)))
            assert "contradict" in await refusal(world, "p01")
            assert (await counters(world, "p01")).predictions == 30

        hub(tmp_path, scenario)

    def test_a_message_that_is_bad_further_down_leaves_nothing_behind(self, tmp_path: Path) -> None:
        """The second variant's counters are impossible: the first one's are not taken either."""

        async def scenario(world: World) -> None:
            await fleet(world, 2)
            good = as_json(telemetry(1, 10, 9))
            broken = good["stats"][0] | {"version": 2, "correct": 11}
            both = encode(good | {"stats": [good["stats"][0], broken]})
            await world.receive((ROOT.up("p01", "telemetry"), both))
            assert "contradict" in await refusal(world, "p01")
            assert await world.store.read(lambda conn: conn.execute(select(stats)).all()) == []

        hub(tmp_path, scenario)

    def test_figures_that_cannot_be_true_are_refused_by_name(self, tmp_path: Path) -> None:
        """One hostile device must not overflow a column, or a mean over the fleet."""

        async def scenario(world: World) -> None:
            await fleet(world, 1)
            good, said = as_json(telemetry(1, 10, 9)), ROOT.up("p00", "telemetry")
            for change, reason in (
                ({"predictions": 2**63}, "contradict"),
                ({"version": 2**63}, "version"),
                ({"confidence_sum": 1e308}, "confidence"),
                ({"confidence_sum": -1.0}, "confidence"),
                ({"latency_us": {"100000": 1}}, "latency bucket"),
                ({"latency_us": {"1": -1}}, "latency count"),
            ):
                await world.receive((said, encode(good | {"stats": [good["stats"][0] | change]})))
                assert reason in await refusal(world, "p00")
            await world.receive((said, encode(good | {"seq": 2**63})))
            assert "seq" in await refusal(world, "p00")
            await world.online("p00", boot=2**63)
            assert "boot" in await refusal(world, "p00")
            assert await world.store.read(lambda conn: conn.execute(select(stats)).all()) == []

        hub(tmp_path, scenario)

    def test_a_device_cannot_exhaust_the_sequence_numbers(self, tmp_path: Path) -> None:
        """The hub issues above what a device reports: it must still be able to, or no rollout would ever go on."""

        async def scenario(world: World) -> None:
            await fleet(world, 2)
            await roll_out(world, waves=(Wave(percent=100),))
            await world.tick()
            report = await newest_after_report(world, "p00")
            for sequence in (2**63, 2**63 - 1, -1):
                await world.receive((ROOT.up("p00", "reported"), encode(report | {"seq": 9, "sequence": sequence})))
                assert "sequence" in await refusal(world, "p00")
            await world.store.write(lambda conn: director.reissue_outdated(conn, world.seal, world.clock.now_ns()))

        hub(tmp_path, scenario)

    def test_more_golden_outputs_than_there_can_be_are_refused(self, tmp_path: Path) -> None:
        """They would outweigh every other device of the wave."""

        async def scenario(world: World) -> None:
            await fleet(world, 1)
            await roll_out(world)
            await world.tick()
            for matched, total in ((33, 32), (10**9, 10**9), (-1, 32)):
                await world.report("p00", golden=GoldenResult(matched=matched, total=total, max_error=0.0))
                assert "golden outputs" in await refusal(world, "p00")
            assert await waiting(world) == ["p00"]

        hub(tmp_path, scenario)

    def test_what_a_device_invents_does_not_pile_up(self, tmp_path: Path) -> None:
        """Slots are those of the newest report; counters are kept of variants in the registry only."""

        async def scenario(world: World) -> None:
            await fleet(world, 1)
            await roll_out(world)
            await world.tick()
            for number in range(3):
                await world.report("p00", outcome=None, slot=f"slot{number}")
            known = await world.store.read(lambda conn: conn.scalars(select(slots.c.slot)).all())
            assert known == ["slot2"]
            mine = as_json(telemetry(1, 10, 9))
            others = [mine["stats"][0] | change for change in ({"version": 7}, {"variant": "x1"}, {"model": "zzz"})]
            await world.receive((ROOT.up("p00", "telemetry"), encode(mine | {"stats": [*mine["stats"], *others]})))
            assert (await counters(world, "p00")).variant == "int8"

        hub(tmp_path, scenario)

    def test_presence_follows_status_will_messages_and_silence(self, tmp_path: Path) -> None:
        """Late wills of an earlier boot do not count; a lost link means that nobody is known to be there."""

        async def scenario(world: World) -> None:
            await world.enrol("p01")
            inbox = Inbox(world.store, world.outbox, world.clock, world.door)
            seen = []
            for step in (
                lambda: world.online("p01", boot=2),
                lambda: world.online("p01", online=False, boot=1),
                lambda: world.online("p01", online=False, boot=2),
                lambda: world.receive((ROOT.up("p01", "telemetry"), telemetry(1, 1, 1))),
                lambda: inbox.presume_all_gone(world.store),
                lambda: world.online("p01", boot=2),
                lambda: inbox.presume_silent_gone(world.store, 10),
            ):
                await step()
                seen.append(await world.store.read(lambda conn: conn.scalar(select(devices.c.online))))
                world.clock.ns += 6
            world.clock.ns += 6
            await inbox.presume_silent_gone(world.store, 10)
            seen.append(await world.store.read(lambda conn: conn.scalar(select(devices.c.online))))
            assert seen == [True, True, False, True, False, True, True, False]

        hub(tmp_path, scenario)

    def test_messages_are_acknowledged_only_after_the_commit(self, tmp_path: Path) -> None:
        """And a message that the hub cannot handle does not hold up the next one."""

        async def scenario(world: World) -> None:
            await fleet(world, 2)
            inbox, acked = Inbox(world.store, world.outbox, world.clock, world.door), []
            inbox.take(inbound(ROOT.up("p01", "telemetry"), telemetry(1, 5, 4), acked))
            inbox.take(
                inbound(ROOT.up("p01", "telemetry"), telemetry(2, 10, 9), acked)
            )  # who has more is not kept waiting
            assert acked == []
            running = asyncio.create_task(inbox.run())
            async with asyncio.timeout(5):
                while len(acked) < 2:
                    await asyncio.sleep(0.005)
            running.cancel()
            assert (await counters(world, "p01")).predictions == 10

        hub(tmp_path, scenario)
