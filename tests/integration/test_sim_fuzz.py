"""Random lives keep every promise; a seeded bug is found, shrunk and replayed; a seed repeats itself to the digest."""

import contextlib
import json

import pytest

from bench import sim_fuzz
from bench.sim_bugs import BUGS
from fleetloop.cli import main
from simulator.fuzz.campaign import Tally, endings, explain, play
from simulator.fuzz.cuts import explore, quiet_life
from simulator.fuzz.draw import draw
from simulator.fuzz.play import Playing

BUG = {bug.name: bug for bug in BUGS}


def test_random_lives_keep_every_promise() -> None:
    """Each with at least three faults that did harm."""
    tally = Tally()
    for ending in endings(range(1, 4), workers=1):
        tally.add(ending)
    assert not tally.failed
    assert (tally.seeds, tally.converged) == (3, 3)
    assert tally.fewest is not None
    assert tally.fewest >= 3


@pytest.mark.parametrize("seed", [135, 142])
def test_what_failed_once_does_not_fail_again(seed: int) -> None:
    """The broker of the simulator cut living connections, for a partition during which it had been killed."""
    assert not play(seed).problem


def test_a_seed_repeats_itself_whatever_was_played_before() -> None:
    """Alone and after another life in the same process, on a database that was used before."""
    first = play(8)
    play(2)
    assert play(8).digest == first.digest


def test_a_seeded_bug_is_found_shrunk_and_seen_again() -> None:
    """Of all that happens in that life, only what it takes is named, and replaying that shows the bug."""
    bug, seed = BUG["contents are not synced"], 3
    with bug.seeded():
        problem = play(seed).problem
    assert problem
    violation = explain(seed, problem, bug.seeded)
    steps = [int(step.partition(":")[0]) for step in violation.steps]
    assert 0 < len(steps) < draw(seed).steps
    assert violation.replay.endswith(",".join(map(str, steps)))
    with bug.seeded():
        assert Playing(draw(seed), steps).play().problem
    assert not Playing(draw(seed), steps).play().problem


@pytest.mark.parametrize(
    ("name", "seed"), [("the floor of the sequence is forgotten", 1), ("an outcome is counted twice", 1)]
)
def test_bugs_are_noticed_where_they_happen(name: str, seed: int) -> None:
    """One on the device, one in the hub: the run ends at once, not when everything should have come to rest."""
    with BUG[name].seeded():
        ending = play(seed)
    assert "BrokenPromiseError" in ending.problem
    assert ending.virtual_s < 120


def test_power_may_fail_at_operations_of_a_devices_life() -> None:
    """A few of them; `fleetloop bench sim-fuzz` tries all."""
    explored = explore(quiet_life(1), seeds=2, workers=2, every=60)
    assert explored.points >= 3
    assert explored.states >= explored.points
    assert not explored.problems


def test_a_disk_that_syncs_nothing_is_found_out_at_a_cut() -> None:
    """Contents that are never made durable cost the model."""
    with BUG["contents are not synced"].seeded():
        explored = explore(quiet_life(1), seeds=3, workers=2, every=45)
    assert explored.problems


def test_the_bench_says_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    """In its short version, without seeded bugs."""
    code = sim_fuzz.run(sim_fuzz.Settings(seeds=1, first=6, short=True, json=True))
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == 0
    assert (figures["violations"], figures["converged"], figures["cut_violations"]) == (0, 1, 0)
    assert figures["fewest_faults"] >= 3


def test_the_command_replays_chosen_steps(capsys: pytest.CaptureFixture[str]) -> None:
    """As the report of a failure says."""
    with contextlib.redirect_stderr(None):
        assert main(["sim", "fuzz", "--seed", "6", "--only", "0,1", "--log-level", "error"]) == 0
    assert "every promise was kept" in capsys.readouterr().out
