"""The exploration of crash states in short: a share of all states of every scenario, and every seeded bug."""

import json

import pytest

from bench import crash
from bench.crash_states.explore import begin, live_through, record
from bench.crash_states.scenarios import SCENARIOS, Scenario
from bench.crash_states.worker import Findings, Task
from simulator.core.power import outcomes


def scenario(name: str) -> Scenario:
    """The scenario of this name."""
    return next(one for one in SCENARIOS if one.name == name)


def test_a_share_of_all_crash_states_breaks_no_promise_and_every_seeded_bug_is_found(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The proof itself, short."""
    assert crash.run(crash.Settings(short=True, json=True)) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["violations"] == 0
    assert figures["seeded_bugs_found"] == figures["seeded_bugs"] >= 8
    assert set(figures["per_scenario"]) == {one.name for one in SCENARIOS}
    assert {"pwrite", "rename", "unlink"} <= set(figures["per_operation"])


def test_a_cut_transfer_leaves_a_part_that_the_resume_begins_with() -> None:
    """Else the scenario would be another plain update."""
    files = begin(scenario("resume of a cut transfer")).files
    assert any(path.endswith(".part") for path in files)
    assert any(path.endswith(".have") for path in files)


def test_the_same_scenario_is_recorded_the_same_way_twice() -> None:
    """Shares that different processes explore are shares of one whole."""
    start = begin(scenario("update"))
    digests = [[state.digest for state in record(scenario("update"), start, orders=2)[0]] for _ in range(2)]
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == len(digests[0])


def test_at_rest_nothing_is_left_to_chance() -> None:
    """When the device has said that it is done, a power cut changes nothing."""
    course = live_through(scenario("first install").last, begin(scenario("first install")))
    last = course.moments[-1].disk
    assert len(list(outcomes(last))) == 1
    assert {"state.json", "state.copy.json"} <= set(last.names)


def test_a_violation_or_a_missed_bug_fails_the_proof() -> None:
    """The figures say so."""
    broken = Findings(Task("update"), violations=["update, cut after rename state.json: lost"])
    missed = Findings(Task("update", bug="names not synced"))
    figures = crash.summary([broken, missed])
    assert figures["violations"] == 1
    assert (figures["seeded_bugs"], figures["seeded_bugs_found"]) == (1, 0)
    assert figures["bugs"] == {"names not synced": "not found"}
