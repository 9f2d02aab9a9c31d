"""The hub's services on real SQLite and real objects: enrolment, reports, rollouts, registry, chunks, jobs."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from cloud.api.views import rollout_view
from cloud.core.gates import Gates
from cloud.core.rollout import Command, Plan, Wave
from cloud.errors import ConflictError, InvalidError
from cloud.service import director, enrolment, registry
from cloud.service import rollouts as rollout_service
from cloud.service.blobs import Blobs
from cloud.service.effects import Wake
from cloud.service.enrolment import NewClaim
from cloud.service.hub import Hub, Intervals, Parts
from cloud.service.inbox import Inbox
from cloud.service.jobs import Jobs
from cloud.service.optimize_jobs import OptimizeJobs
from cloud.service.registry import refuse
from cloud.service.rollouts import NewRollout
from cloud.tables import desired, devices, jobs, members, rollouts, signing_requests, slots, stats, versions
from tests.hub_world import MODEL, ROOT, World, as_json, inbound, run_until_idle
from wire.adapters.keys import load_or_create
from wire.codec import decode, encode
from wire.messages import GoldenResult, ModelStats, Outcome, Phase, Receipt, Telemetry
from wire.ports import LinkError
from wire.transfer.chunks import frame

WAVES = (Wave(count=1), Wave(percent=50), Wave(percent=100))


def hub(tmp_path: Path, scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario against a fresh hub."""

    async def run() -> None:
        async with World(tmp_path) as world:
            await scenario(world)

    asyncio.run(run())


async def released(world: World) -> None:
    """Version 1 is built and signed."""
    await world.train()
    await world.sign(await request_id(world))


async def request_id(world: World) -> str:
    """The newest signing request."""
    newest = select(signing_requests.c.id).order_by(signing_requests.c.created_ns.desc()).limit(1)
    return str(await world.store.read(lambda conn: conn.scalar(newest)))


async def train_order(world: World) -> None:
    """Queue a training job."""
    from cloud.service import jobs as job_service
    from cloud.service import registry

    def add(conn: Any, now_ns: int) -> Any:
        registry.add_model(conn, MODEL, "watch", now_ns)
        return job_service.add(conn, world.ids.new(), "train", MODEL, {"workload": "watch", "seed": 0}, now_ns)

    await world.change(add)


async def roll_out(world: World, identity: str = "r1", waves: tuple[Wave, ...] = WAVES, **selector: str) -> None:
    """Start a rollout of version 1."""
    new = NewRollout(identity, MODEL, 1, "main", selector, None, Plan(waves, Gates()))
    await world.change(lambda conn, now_ns: rollout_service.create(conn, new, "test", now_ns))


async def fleet(world: World, size: int) -> list[str]:
    """Enrolled devices and a released version."""
    names = [f"p{number:02}" for number in range(size)]
    for name in names:
        await world.enrol(name, arm="left" if name < "p02" else "right")
    await train_order(world)
    await released(world)
    return names


async def waiting(world: World, rollout: str = "r1") -> list[str]:
    """Devices that have been assigned and have not ended."""
    query = select(members.c.device).where(
        members.c.rollout == rollout, members.c.assigned_ns.is_not(None), members.c.outcome.is_(None)
    )
    return list(await world.store.read(lambda conn: conn.scalars(query.order_by(members.c.device)).all()))


async def state(world: World, rollout: str = "r1") -> tuple[str, int, str]:
    """State, open wave and reason of a rollout."""
    query = select(rollouts.c.state, rollouts.c.wave, rollouts.c.reason).where(rollouts.c.id == rollout)
    row = await world.store.read(lambda conn: conn.execute(query).one())
    return row.state, row.wave, row.reason


async def refusal(world: World, device: str) -> str:
    """Why the hub refused the device's last message."""
    query = select(devices.c.last_refusal).where(devices.c.name == device)
    return str(await world.store.read(lambda conn: conn.scalar(query)))


class TestEnrolment:
    """From token to identity."""

    def test_repeating_the_request_repeats_the_answer(self, tmp_path: Path) -> None:
        """Idempotent: the broker learns of the login once, the device may ask again."""

        async def scenario(world: World) -> None:
            await world.enrol("p01")
            assert Wake.USERS in world.last.wakes
            again = await world.request("client-7", f"token-of-p01-{'x' * 20}")
            assert (again.ok, again.username) == (True, "p01")
            assert Wake.USERS not in world.last.wakes

        hub(tmp_path, scenario)

    def test_a_used_token_is_of_no_use_to_another_device(self, tmp_path: Path) -> None:
        """Another verifier with the same token is refused, and the identity stays."""

        async def scenario(world: World) -> None:
            await world.enrol("p01")
            thief = await world.request("thief", f"token-of-p01-{'x' * 20}", "e" * 64)
            assert not thief.ok
            assert "already used" in thief.reason
            await world.outbox.users()
            assert world.control.users["p01"].verifier == "c" * 64

        hub(tmp_path, scenario)

    def test_a_new_claim_file_makes_the_unused_one_worthless(self, tmp_path: Path) -> None:
        """So a claim file that went astray can be replaced."""

        async def scenario(world: World) -> None:
            for token in ("lost", "newer"):
                new = NewClaim("p01", {}, False, token)
                await world.change(lambda conn, now_ns, new=new: enrolment.claim(conn, new, "test", now_ns))
            assert "unknown claim token" in (await world.request("x", "lost")).reason
            assert (await world.request("x", "newer")).ok

        hub(tmp_path, scenario)

    def test_unknown_expired_and_malformed_requests_say_why(self, tmp_path: Path) -> None:
        """Each with its own reason, on the client's own topic."""

        async def scenario(world: World) -> None:
            assert "unknown claim token" in (await world.request("x", "nonsense")).reason
            effects = await world.receive((ROOT.enrol("up", "x"), b'{"token": 5}'))
            assert b"EnrolRequest" in effects.publishes[0].payload

        hub(tmp_path, scenario)


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
            bad = {
                b"x" * 100_000: "100000 bytes",
                encode(good)[:-9]: "truncated",
                encode(good | {"seq": 8, "colour": "red"}): "colour",
                encode(good | {"seq": "eight"}): "seq",
                encode(good | {"seq": 3}): "stale report: sequence 3, but 7",
                encode(good | {"seq": 8, "slots": [slot]}): "claims success",
            }
            before = await row(world, "p00")
            for payload, reason in bad.items():
                effects = await world.receive((topic, payload))
                assert effects.publishes == ()
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
        """The newest counters count; a late older message is refused; impossible ones too."""

        async def scenario(world: World) -> None:
            await fleet(world, 2)
            topic = ROOT.up("p01", "telemetry")
            await world.receive((topic, telemetry(1, 10, 9)), (topic, telemetry(3, 30, 20)))
            await world.receive((topic, telemetry(2, 20, 15)))
            assert "stale telemetry" in await refusal(world, "p01")
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
            inbox = Inbox(world.store, world.outbox, world.clock, ROOT)
            seen = []
            for step in (
                lambda: world.online("p01", boot=2),
                lambda: world.online("p01", online=False, boot=1),
                lambda: world.online("p01", online=False, boot=2),
                lambda: world.receive((ROOT.up("p01", "telemetry"), telemetry(1, 1, 1))),
                inbox.presume_all_gone,
                lambda: world.online("p01", boot=2),
                lambda: inbox.presume_silent_gone(10),
            ):
                await step()
                seen.append(await world.store.read(lambda conn: conn.scalar(select(devices.c.online))))
                world.clock.ns += 6
            world.clock.ns += 6
            await inbox.presume_silent_gone(10)
            seen.append(await world.store.read(lambda conn: conn.scalar(select(devices.c.online))))
            assert seen == [True, True, False, True, False, True, True, False]

        hub(tmp_path, scenario)

    def test_messages_are_acknowledged_only_after_the_commit(self, tmp_path: Path) -> None:
        """And a message that the hub cannot handle does not hold up the next one."""

        async def scenario(world: World) -> None:
            await fleet(world, 2)
            inbox, acked = Inbox(world.store, world.outbox, world.clock, ROOT), []
            inbox.take(inbound(ROOT.up("p01", "telemetry"), telemetry(1, 10, 9), acked))
            assert acked == []
            running = asyncio.create_task(inbox.run())
            async with asyncio.timeout(5):
                while not acked:
                    await asyncio.sleep(0.005)
            running.cancel()
            assert (await counters(world, "p01")).predictions == 10

        hub(tmp_path, scenario)


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
            with pytest.raises(InvalidError, match="no enrolled device"):
                await roll_out(world, arm="third")
            new = NewRollout("r9", MODEL, 1, "main", {}, "int4", Plan(WAVES))
            with pytest.raises(InvalidError, match="int8"):
                await world.change(lambda conn, now_ns: rollout_service.create(conn, new, "test", now_ns))

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
            world.clock.ns += 700 * 10**9
            await world.tick()
            assert (await state(world))[0] == "halted"
            await world.change(lambda conn, now: rollout_service.control(conn, "r1", Command.RESUME, "me", now))
            await world.report("p00")
            view = await world.store.read(lambda conn: rollout_view(conn, "r1"))
            assert (view.committed, view.failed) == (1, 0)

        hub(tmp_path, scenario)


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
                while ROOT.dn("p00", "desired") not in world.link.retained:
                    for ring in scheduled:
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


class TestRegistry:
    """From job to signature."""

    def test_a_misspelt_workload_can_be_put_right_until_there_is_a_version(self, tmp_path: Path) -> None:
        """Afterwards the model belongs to its workload."""

        async def scenario(world: World) -> None:
            await world.change(lambda conn, now_ns: registry.add_model(conn, MODEL, "wotch", now_ns))
            await train_order(world)
            await world.train()
            with pytest.raises(ConflictError, match="belongs to workload 'watch'"):
                await world.change(lambda conn, now_ns: registry.add_model(conn, MODEL, "wotch", now_ns))

        hub(tmp_path, scenario)

    def test_a_job_becomes_a_version_with_all_its_objects(self, tmp_path: Path) -> None:
        """Release, card, gate report, and every referenced object in the store."""

        async def scenario(world: World) -> None:
            await train_order(world)
            await world.train()
            row = await world.store.read(lambda conn: conn.execute(select(versions)).one())
            release = as_json(row.release)
            assert (row.version, row.counter, row.state, row.chosen) == (1, 1, "awaiting_signature", "int8")
            assert [one["name"] for one in release["variants"]] == ["int8"]
            for ref in (release["parent"], release["card"], release["companions"]["train_step"]):
                assert len(await world.objects.get(ref["sha256"])) == ref["bytes"]
            request = await world.store.read(lambda conn: conn.execute(select(signing_requests)).one())
            assert request.payload == row.release
            assert request.gate_report["candidates"][0]["reasons"] == ["bytes: not smaller"]

        hub(tmp_path, scenario)

    def test_only_a_trusted_key_over_exactly_this_release_counts(self, tmp_path: Path) -> None:
        """A foreign key and a tampered payload are refused; the right one may come twice."""

        async def scenario(world: World) -> None:
            await train_order(world)
            await world.train()
            request = await request_id(world)
            stranger = load_or_create(tmp_path / "stranger.key")
            with pytest.raises(InvalidError, match="no trusted key"):
                await world.sign(request, stranger)
            await world.sign(request)
            await world.sign(request)
            with pytest.raises(ConflictError, match="released already"):
                await world.change(lambda conn, now_ns: refuse(conn, request, "late", "publisher", now_ns))

        hub(tmp_path, scenario)


class TestJobs:
    """Processes come and go, rows stay."""

    def test_a_job_whose_hub_died_is_launched_again(self, tmp_path: Path) -> None:
        """Same job, same directory, one version in the end."""

        async def scenario(world: World) -> None:
            await train_order(world)
            world.launcher.hangs = True
            runner = job_runner(world)
            tasks = [asyncio.create_task(runner.run()), asyncio.create_task(world.outbox.run())]
            async with asyncio.timeout(5):
                while not world.launcher.orders:
                    await asyncio.sleep(0.005)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert await job_state(world) == ("running", 1)
            world.launcher.hangs = False
            await world.train()
            assert await job_state(world) == ("succeeded", 2)
            first, second = world.launcher.orders
            assert first == second
            assert len(await world.store.read(lambda conn: conn.execute(select(versions)).all())) == 1

        hub(tmp_path, scenario)

    def test_a_failure_is_kept_with_its_reason(self, tmp_path: Path) -> None:
        """And the next job runs."""

        async def scenario(world: World) -> None:
            await train_order(world)
            world.launcher.failure = "job ended with code 1: no data"
            await run_until_idle(world, job_runner(world))
            row = await world.store.read(lambda conn: conn.execute(select(jobs)).one())
            assert (row.state, row.error) == ("failed", "job ended with code 1: no data")

        hub(tmp_path, scenario)

    def test_files_that_are_not_what_the_result_names_are_refused(self, tmp_path: Path) -> None:
        """A result whose digest does not fit makes no version."""

        async def scenario(world: World) -> None:
            await train_order(world)
            from tests.hub_world import optimizer_output

            world.launcher.files = {"optimize.job": optimizer_output() | {"int8.onnx": b"something else"}}
            await run_until_idle(world, job_runner(world))
            row = await world.store.read(lambda conn: conn.execute(select(jobs)).one())
            assert row.state == "failed"
            assert "int8.onnx is not the file" in row.error

        hub(tmp_path, scenario)


def job_runner(world: World) -> Jobs:
    """Jobs of one kind."""
    kind = OptimizeJobs(world.store, world.objects, world.launcher, world.clock, world.ids)
    return Jobs(world.store, world.outbox, world.launcher, world.clock, {"train": kind})


async def job_state(world: World) -> tuple[str, int]:
    """State and attempts of the only job."""
    row = await world.store.read(lambda conn: conn.execute(select(jobs)).one())
    return row.state, row.attempts


def telemetry(seq: int, predictions: int, correct: int) -> bytes:
    """Counters of one variant."""
    one = ModelStats(
        model=MODEL,
        version=1,
        variant="int8",
        predictions=predictions,
        feedback=predictions,
        correct=correct,
        confidence_sum=0.9 * predictions,
        latency_us={40: predictions},
    )
    return encode(Telemetry(seq=seq, stats=(one,)))


async def counters(world: World, device: str) -> Any:
    """What the hub holds of the device's counters."""
    return await world.store.read(lambda conn: conn.execute(select(stats).where(stats.c.device == device)).one())


class Bells:
    """A scheduler whose alarms the test rings itself."""

    def __init__(self, scheduled: list[Callable[[], None]]) -> None:
        self._scheduled = scheduled

    def every(self, seconds: float, call: Callable[[], None]) -> None:
        """Note the alarm."""
        self._scheduled.append(call)


def a_hub(world: World, scheduled: list[Callable[[], None]]) -> Hub:
    """The hub's services together; it starts listening when it runs."""
    parts = Parts(
        store=world.store,
        link=world.link,
        clock=world.clock,
        ids=world.ids,
        topics=ROOT,
        outbox=world.outbox,
        inbox=Inbox(world.store, world.outbox, world.clock, ROOT),
        blobs=Blobs(world.store, world.objects, world.link, ROOT),
        jobs=Jobs(world.store, world.outbox, world.launcher, world.clock, {}),
    )
    return Hub(parts, world.seal, Bells(scheduled), Intervals())


async def newest_after_report(world: World, device: str) -> dict[str, Any]:
    """The device's report of success, as plain values."""
    await world.report(device)
    return as_json(await newest(world, device))


async def newest(world: World, device: str) -> bytes:
    """Its newest report, as received."""
    query = select(devices.c.reported).where(devices.c.name == device)
    return bytes(await world.store.read(lambda conn: conn.scalar(query)) or b"")


async def row(world: World, device: str) -> dict[str, Any]:
    """Everything that a refused message must not change."""
    query = select(devices, desired.c.sequence).join(desired, desired.c.device == devices.c.name)
    found = await world.store.read(lambda conn: conn.execute(query.where(devices.c.name == device)).one())
    return {name: value for name, value in found._mapping.items() if "refus" not in name}


def test_the_alembic_schema_is_the_one_of_the_tables(tmp_path: Path) -> None:
    """A forgotten migration would show here."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from cloud.adapters.sql_store import make_engine, migrate
    from cloud.tables import metadata

    engine = make_engine(tmp_path / "hub.sqlite")
    migrate(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
