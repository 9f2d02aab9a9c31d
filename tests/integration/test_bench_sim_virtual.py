"""The proof about virtual time, in its short form."""

import json

import pytest

from bench import sim_virtual


def test_a_fleet_lives_the_same_life_in_two_processes(capsys: pytest.CaptureFixture[str]) -> None:
    """Under another hash seed, other moments of collection, and after another seed; and it keeps its promises."""
    assert sim_virtual.run(sim_virtual.Settings(short=True, json=True)) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["digest"] == figures["digest_again"]
    assert figures["problems"] == []
    assert {"database", "hub", "agent", "loop"} <= set(figures["phase_s"])
