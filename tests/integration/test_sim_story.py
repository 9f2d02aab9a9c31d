"""The real services of hub and agent in virtual time: the story's promises hold, and a seed repeats them."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from cloud.core.rollout import Plan, Wave
from cloud.service.rollouts import NewRollout
from cloud.tables import devices, rollouts
from edge_agent.service.objects import path_of
from simulator import main
from simulator.core.network import Quality
from simulator.device import BrokenPromiseError, Device
from simulator.fleet import Fleet, Size
from simulator.options import adjusted
from simulator.run import ScenarioRun
from simulator.scenario import MODEL, SLOT
from simulator.scenario.reading import find
from simulator.settings import Settings
from simulator.version import random_files
from simulator.world import World
from wire.errors import MalformedError

CALM = Quality()


def play(scenario: str = "happy-rollout", seed: int = 1, **options: float) -> ScenarioRun:
    """Play a scenario under the options of the command line."""
    run = ScenarioRun(adjusted(find(scenario), Settings(**options)), seed)
    run.play()
    return run


def failures(run: ScenarioRun) -> list[str]:
    """Expectations that were not met."""
    return [f"{one.name}: {one.detail}" for one in run.expectations if not one.passed]


def live(scene: Callable[[Fleet], Coroutine[Any, Any, None]], seed: int = 1, devices: int = 3) -> None:
    """Play a scene of its own with a fleet that has enrolled and is at rest."""
    world = World(seed)
    fleet = Fleet(world)

    async def whole() -> None:
        await fleet.start(Size(devices, CALM))
        await world.clock.sleep(60 * 10**9)
        await scene(fleet)

    world.loop.run(whole())


async def release(fleet: Fleet, number: int = 1) -> None:
    """Publish a version and roll it out to everybody at once."""
    version = await fleet.hub.publish_version(MODEL, random_files(fleet.world.rng.child(str(number)), 130_000))
    plan = Plan(waves=(Wave(percent=100),))
    await fleet.hub.roll_out(NewRollout(f"r{number}", MODEL, version.version, SLOT, {}, None, plan))


async def pause(fleet: Fleet, seconds: float) -> None:
    """Let virtual time pass."""
    await fleet.world.clock.sleep(int(seconds * 10**9))


def running(device: Device) -> int:
    """The version committed on the device's disk; 0: none."""
    deployed = device.current(SLOT)
    return deployed.installed.version if deployed else 0


def online(fleet: Fleet) -> list[bool]:
    """Who is there, in the hub's eyes."""
    query = select(devices.c.online).order_by(devices.c.name)
    return list(fleet.hub.look(lambda conn: conn.execute(query).scalars().all()))


def rollout_state(fleet: Fleet, rollout: str) -> str:
    """The state in the database."""
    query = select(rollouts.c.state).where(rollouts.c.id == rollout)
    return str(fleet.hub.look(lambda conn: conn.execute(query).scalar_one()))


def test_a_fleet_commits_through_loss_duplicates_reconnects_and_power_cuts() -> None:
    """Every fault fires, no device is ever without its model, and all end on version 2."""
    run = play(devices=12, loss=0.05, duplication=0.05, reboots=6, reconnects=8, kills=4)
    assert failures(run) == []
    report = run.report(0.0)
    assert [rollout.committed for rollout in report.rollouts] == [12, 12]
    assert report.faults.pop("reordered") == 0
    assert all(count >= 2 for count in report.faults.values()), report.faults


def test_everything_twice_changes_nothing() -> None:
    """Each message delivered two times: one assignment per rollout, one installation of each."""
    run = play(devices=5, loss=0.0, duplication=1.0, reboots=0, reconnects=0, kills=0)
    assert failures(run) == []
    for device in run.fleet.devices:
        record = device.record()
        slot = record.slot(SLOT)
        assert slot.current is not None
        assert slot.previous is not None
        assert (record.sequence, slot.current.installed.version, slot.previous.installed.version) == (2, 2, 1)


def test_a_bad_model_halts_at_the_canary() -> None:
    """One device tried it and went back to what it had; nobody else was asked."""
    run = play("bad-canary", devices=6, loss=0.05, reboots=3)
    assert failures(run) == []
    first, second = run.report(0.0).rollouts
    assert (first.state, first.committed) == ("succeeded", 6)
    assert (second.state, second.waves_opened, second.assigned, second.failed) == ("halted", 1, 1, 1)
    assert any("golden" in reason for reason in second.reasons)


def in_a_process(hash_seed: str, seed: int) -> str:
    """The digest of a run in an interpreter of its own."""
    command = [sys.executable, "-m", "fleetloop", "sim", "run", "reconnect-storm", "--devices", "2", "--reboots", "1"]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, "--seed", str(seed), "--json"], env=environment, capture_output=True, check=True)
    return str(json.loads(done.stdout.splitlines()[-1])["runs"][0]["digest"])


def test_a_seed_repeats_the_run_in_any_process() -> None:
    """Two interpreters with other string hashes, and this one after other runs: one digest. Another seed: another."""
    here = play("reconnect-storm", devices=2, seed=5, reboots=1).report(0.0).digest
    assert in_a_process("1", 5) == in_a_process("2", 5) == here
    assert play("reconnect-storm", devices=2, seed=6, reboots=1).report(0.0).digest != here


def test_a_device_at_rest_counts_as_present_and_gets_what_was_lost() -> None:
    """Ten quiet minutes, then its desired document is lost: the hub sends it again."""

    async def scene(fleet: Fleet) -> None:
        await pause(fleet, 600)
        assert online(fleet) == [True] * 3
        for device in fleet.devices:
            device.network.quality = Quality(loss=1.0)
        await release(fleet)
        await pause(fleet, 2)
        for device in fleet.devices:
            device.network.quality = CALM
        await pause(fleet, 60)
        assert [running(device) for device in fleet.devices] == [1, 1, 1]

    live(scene)


def test_the_last_will_says_that_a_device_is_gone() -> None:
    """Within two keep-alive times of losing power, not after minutes of silence; and it is back when it boots."""

    async def scene(fleet: Fleet) -> None:
        fleet.devices[1].power_cut(off_ns=60 * 10**9)
        await pause(fleet, 40)
        gone = online(fleet)
        await pause(fleet, 40)
        assert (gone, online(fleet)) == ([True, False, True], [True] * 3)

    live(scene)


def test_hub_and_broker_may_be_killed_during_a_rollout() -> None:
    """Both come back, the broker empty; the rollout ends as if nothing had happened."""

    async def scene(fleet: Fleet) -> None:
        await release(fleet)
        await pause(fleet, 0.7)
        fleet.hub.kill()
        await pause(fleet, 20)
        fleet.hub.start()
        await pause(fleet, 0.5)
        fleet.world.broker.kill()
        await pause(fleet, 10)
        fleet.world.broker.start()
        await pause(fleet, 120)
        assert [running(device) for device in fleet.devices] == [1, 1, 1]
        assert rollout_state(fleet, "r1") == "succeeded"
        assert fleet.world.broker.refused == []

    live(scene)


def test_the_check_after_a_power_cut_can_fail() -> None:
    """A current model whose bytes have changed is noticed."""

    async def scene(fleet: Fleet) -> None:
        await release(fleet)
        await pause(fleet, 60)
        device = fleet.devices[0]
        device.check()
        deployed = device.current(SLOT)
        assert deployed is not None
        path = path_of(deployed.installed.sha256)
        await device.disk.pwrite(path, 0, hashlib.sha256(b"rot").digest())
        with pytest.raises(BrokenPromiseError, match="is damaged"):
            device.check()
        await device.disk.unlink(path)
        with pytest.raises(BrokenPromiseError, match="is not on the disk"):
            device.check()

    live(scene)


def test_an_expectation_that_fails_shows_in_the_exit_code(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Nobody can install within a second. The page is written all the same."""
    file, page = tmp_path / "hasty.yaml", tmp_path / "report.html"
    file.write_text(
        "title: In haste\npopulation: {enrolled: true}\ntimeline: [{do: publish}, {do: roll_out, name: only}]\n"
        "expect: [{expect: rollout_ends, rollout: only, state: succeeded, within: 1s}]\n"
    )
    assert main.run(Settings(scenario=str(file), devices=2, json=True, html=str(page))) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["scenario"], report["seeds"], report["passed"]) == ("In haste", 1, False)
    assert "expectations met in 0 of 1 runs" in page.read_text()


def test_seeds_in_several_processes_come_to_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """Each seed's digest, whether one process runs them all or two share them."""
    digests = []
    for processes in (1, 2):
        settings = Settings(scenario="bad-canary", devices=2, seeds=2, processes=processes, json=True)
        assert main.run(settings) == 0
        runs = json.loads(capsys.readouterr().out)["runs"]
        digests.append([run["digest"] for run in runs])
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == 2


def test_two_policies_of_one_name_are_an_error(tmp_path: Path) -> None:
    """They could not be told apart: it is said before anything is played."""
    file = tmp_path / "canary.yaml"
    file.write_text("plan: {waves: [{percent: 100}]}")
    settings = Settings(action="compare", scenario="bad-canary", policies=(str(file), str(file)))
    with pytest.raises(MalformedError, match="two policies are called 'canary'"):
        main.run(settings)


def test_policies_are_compared_over_the_same_seeds(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A policy from a file beside one: whoever reaches all at once harms more devices than a canary does."""
    for name, waves in (("canary", "{count: 1}, {percent: 100}"), ("rush", "{percent: 100}")):
        (tmp_path / f"{name}.yaml").write_text(
            f"plan: {{waves: [{waves}], gates: [{{expression: commit_rate >= 90 %}}]}}"
        )
    policies = tuple(str(tmp_path / f"{name}.yaml") for name in ("canary", "rush"))
    settings = Settings(action="compare", scenario="bad-canary", devices=4, policies=policies, json=True, processes=1)
    assert main.run(settings) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["policy"] for one in found["figures"]] == ["canary", "rush"]
    exposed = next(one for one in found["differences"] if one["figure"] == "exposed")
    assert exposed["estimate"]["mean"] > 0
