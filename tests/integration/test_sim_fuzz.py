"""Random lives keep every promise; a seeded bug is found, shrunk and replayed; a seed repeats itself to the digest."""

import dataclasses
import json
import subprocess
import sys
import time

import psutil
import pytest

from bench import sim_fuzz
from bench.sim_bugs import BUGS
from cloud.core.rollout import Plan, Wave
from cloud.core.rollout.windows import Window
from simulator.core.clock import EPOCH_NS
from simulator.fakes.runtime import Manner
from simulator.faults.fault import Among
from simulator.faults.forgery import ForgedDesired
from simulator.faults.kinds import BrokerKill, Partition
from simulator.fleet import Fleet
from simulator.fuzz.campaign import Tally, endings, explain, play
from simulator.fuzz.cuts import CutDisk, CutPlaying, Forks, explore, quiet_life
from simulator.fuzz.draw import SMALL_BYTES, draw
from simulator.fuzz.play import Playing
from simulator.fuzz.standing import INTERVALS, SIZE, SLOT, standing
from simulator.invariants.rest import outstanding
from simulator.world import World
from wire.ports import SECOND

BUG = {bug.name: bug for bug in BUGS}
LIVES = 20
"""What fits into a run of the suite; `fleetloop bench sim-fuzz` plays thousands."""
KEPT = (6816, 9106)


def test_random_lives_keep_every_promise() -> None:
    """Each with at least three faults that did harm."""
    tally = Tally()
    for ending in endings(range(6, 6 + LIVES), workers=1):
        tally.add(ending)
    assert not tally.failed
    assert (tally.seeds, tally.converged) == (LIVES, LIVES)
    assert tally.fewest is not None
    assert tally.fewest >= 3


@pytest.mark.parametrize("seed", KEPT)
def test_lives_that_once_broke_a_promise_keep_it(seed: int) -> None:
    """6816: a thief's order under the hub's own next number. 9106: a start that the disk did not take has no number."""
    assert not play(seed).problem


def test_a_broker_killed_during_a_partition_leaves_living_connections_alone() -> None:
    """Seed 135 once: the broker's watch for a client that had vanished outlived the broker, and met its next life."""
    faults = (
        (1, Partition(at="1430ms", lasts="21s", devices=Among(names=("d00000",)))),
        (1, BrokerKill(at="8950ms", down="4s")),
    )
    life = dataclasses.replace(quiet_life(3), devices=2, faults=faults)
    assert not Playing(life).play().problem


def test_what_a_thief_has_undone_is_done_again_though_its_hours_are_over() -> None:
    """Seed 138: the hub gave the order again with hours that were past, and the device's success became a time-out."""
    minutes = Window("*/2 * * * *", "UTC", duration_s=60.0)
    plan = Plan(waves=(Wave(percent=100),), health_window_s=2.0, window=minutes)
    faults = ((1, ForgedDesired(at="25s", version=1)),)
    life = dataclasses.replace(quiet_life(3), devices=2, plan=plan, faults=faults, newborn=False)
    playing = Playing(life)
    ending = playing.play()
    assert (ending.problem, ending.fired["forged_desired"]) == ("", 2)
    running = [device.current(SLOT) for device in playing.fleet.devices]
    assert [one.installed.version for one in running if one] == [2, 2]


def test_devices_learn_in_the_midst_of_trouble() -> None:
    """The run ends, nobody counts an update twice; a power cut took one of the messages that were in memory only."""
    life = draw(200)
    assert life.learning is not None
    playing = Playing(life)
    assert not playing.play().problem
    taken = playing.fleet.hub.learning.accepted()
    assert all(taken[device.name] >= life.learning.rounds for device in playing.fleet.devices)
    assert playing.fleet.reboots > 0


def test_a_life_that_ends_with_an_error_nobody_foresaw_has_a_problem() -> None:
    """One such life must not end a campaign of thousands without a word of which seed it was."""

    class Surprised(Playing):
        async def _act(self, act: int, plan: Plan) -> None:
            raise KeyError("nobody")

    ending = Surprised(quiet_life(3)).play()
    assert (ending.seed, "KeyError: 'nobody'" in ending.problem) == (3, True)


def test_a_seed_repeats_itself_whatever_was_played_before() -> None:
    """Alone and after another life in the same process, on a database that was used before."""
    first = play(6)
    play(8, BUG["an outcome is counted twice"].seeded)
    assert play(6).digest == first.digest


def test_a_seeded_bug_is_found_shrunk_and_seen_again() -> None:
    """Of all that happens in that life, only what it takes is named, and replaying that shows the bug."""
    bug, seed = BUG["names are not synced"], 3
    problem = play(seed, bug.seeded).problem
    assert problem
    violation = explain(seed, problem, bug.seeded)
    steps = [int(step.partition(":")[0]) for step in violation.steps]
    assert 0 < len(steps) < draw(seed).steps
    assert violation.replay.endswith(",".join(map(str, steps)))
    playing = Playing(draw(seed), steps)
    with bug.seeded():
        assert playing.play().problem
    assert not Playing(draw(seed), steps).play().problem


@pytest.mark.parametrize("name", ["the floor of the sequence is forgotten", "an outcome is counted twice"])
def test_bugs_are_noticed_where_they_happen(name: str) -> None:
    """One on the device, one in the hub: the run ends at once, not when everything should have come to rest."""
    ending = play(6, BUG[name].seeded)
    assert "BrokenPromiseError" in ending.problem
    assert ending.virtual_s < 120


def test_a_disk_that_syncs_nothing_is_found_out_at_a_cut() -> None:
    """Contents that are never made durable cost the model."""
    with BUG["contents are not synced"].seeded():
        explored = explore(quiet_life(1), seeds=2, workers=2, every=110)
    assert explored.problems


def test_a_fork_plays_what_the_process_itself_would_have_played() -> None:
    """The same cut, in a child and here: equal to the last event."""
    wanted, told = "operation 40, crash seed 0", dict[bool, str]()

    class Chosen(Forks):
        def fork(self, what: str) -> bool:
            return what == wanted and super().fork(what)

    class Here(Forks):
        def fork(self, what: str) -> bool:
            return what == wanted

    for forks in (Chosen(1), Here(1)):
        disk = CutDisk(1, 40, forks)
        playing = CutPlaying(quiet_life(1), disk)
        problem = playing.play().problem
        here = isinstance(forks, Here)
        if disk.child and not here:
            forks.end(f"{problem} {playing.world.trace.digest}")
        forks.join()
        told[here] = f"{wanted}: {problem} {playing.world.trace.digest}" if here else forks.explored.problems[0]
    assert told[True] == told[False]


def test_a_copy_of_a_fleet_goes_on_where_it_stood() -> None:
    """Sequences and start numbers go on, and version 1 serves: the copy is not a new fleet."""
    found = standing(2, SMALL_BYTES)
    fleet = Fleet(World(9), INTERVALS, found.estate)

    async def scene() -> None:
        fleet.hub.start()
        fleet.wake(SIZE)
        await fleet.world.clock.sleep(20 * SECOND)
        assert not outstanding(fleet)

    fleet.world.loop.run(scene())
    records = [device.record() for device in fleet.devices]
    assert [(one.boot, one.sequence, one.slot(SLOT).current is not None) for one in records] == [(2, 1, True)] * 2
    assert fleet.world.clock.now_ns() > EPOCH_NS + found.estate.age_ns


def test_the_bench_says_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    """In its short version, without seeded bugs."""
    code = sim_fuzz.run(sim_fuzz.Settings(seeds=1, first=6, short=True, json=True))
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == 0
    assert (figures["violations"], figures["converged"], figures["cut_violations"]) == (0, 1, 0)
    assert figures["fewest_faults"] >= 3


def test_the_command_replays_chosen_steps() -> None:
    """As the report of a failure says."""
    command = [sys.executable, "-m", "fleetloop", "sim", "fuzz", "--seed", "6", "--only", "0,1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    figures = json.loads(done.stdout)
    assert (figures["seed"], figures["problem"], len(figures["steps"])) == (6, "", 2)


def test_nothing_is_left_of_a_campaign_that_was_killed() -> None:
    """Its workers would wait for work for ever."""
    command = [sys.executable, "-m", "fleetloop", "sim", "fuzz", "--seeds", "10000", "--processes", "2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as campaign:
        deadline = time.monotonic() + 60
        while len(at_work := _workers(campaign.pid)) < 2:
            assert campaign.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        campaign.kill()
    _, alive = psutil.wait_procs(at_work, timeout=30)
    assert not alive


def _workers(pid: int) -> list[psutil.Process]:
    """Its processes that have begun to live lives."""
    children = psutil.Process(pid).children()
    return [one for one in children if "spawn_main" in " ".join(one.cmdline()) and one.cpu_times().user > 0.5]


@pytest.mark.parametrize(
    "manner", [Manner(crashes="with the agent"), Manner(leak_bytes=1 << 29)], ids=["kills", "leaks"]
)
def test_a_model_that_takes_the_agent_with_it_costs_nobody_the_model_before(manner: Manner) -> None:
    """At every prediction, or when memory is used up: on all devices, beside all that goes wrong in that life."""
    life = draw(6)
    bad = tuple((f"d{number:05}", manner) for number in range(life.devices))
    playing = Playing(dataclasses.replace(life, bad=bad))
    assert not playing.play().problem
    assert sum(device.crashes for device in playing.fleet.devices) > 0
