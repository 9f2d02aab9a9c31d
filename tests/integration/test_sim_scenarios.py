"""Every scenario that ships holds on a small fleet, and fails once what it is about is taken out of it."""

import pytest

from simulator.campaign import Task, make
from simulator.options import adjusted
from simulator.report import Report
from simulator.scenario.document import Scenario
from simulator.scenario.reading import find, parse, shipped
from simulator.settings import Settings

SMALL = {
    "background-noise": 6,
    "bad-canary": 3,
    "expired-certificates": 2,
    "expired-metadata": 2,
    "federated-rounds": 4,
    "full-disks": 5,
    "happy-rollout": 3,
    "hub-killed": 3,
    "hundred-thousand": 10,
    "night-only": 2,
    "operators-day": 6,
    "poisoned-updates": 9,
    "reconnect-storm": 4,
    "slow-broker": 5,
    "slow-model": 6,
    "stolen-key": 2,
    "world-drifts": 2,
    "wrong-on-one-class": 5,
}
"""Scenario -> size of the fleet here."""

WITHOUT = {
    "background-noise": [("commit_rate >= 80 %, undecided: proceed", "commit_rate >= 100 %")],
    "bad-canary": [
        ("{do: roll_out, name: second}", "{do: roll_out, name: second, plan: {waves: [{percent: 100}], gates: []}}")
    ],
    "expired-certificates": [
        ("off: 30d", "off: 380d"),
        ("down: 29.99d", "down: 379.99d"),
        ("at: 30.01d", "at: 380.01d"),
    ],
    "expired-metadata": [("  - {do: renew_metadata}\n", "")],
    "federated-rounds": [("quorum: 0.5", "quorum: 1.0")],
    "full-disks": [("disk_mb: 4.2", "disk_mb: 64")],
    "happy-rollout": [("faults:", "models: [{versions: [{}, {traits: [{kind: crashing}]}]}]\nfaults:")],
    "hub-killed": [("at: 22s, down: 15s", "at: 10s, down: 2h")],
    "hundred-thousand": [
        ("expect:\n", "models: [{versions: [{traits: [{kind: crashing, devices: {class: meter}}]}]}]\n\nexpect:\n")
    ],
    "night-only": [
        ("step_timeout_s: 172800\n      total_timeout_s: 172800", "step_timeout_s: 60\n      total_timeout_s: 60")
    ],
    "operators-day": [
        ("{do: hold, devices: {names: [d00000, d00001]}, after: first}", "{do: publish, after: first}"),
        ("  - {do: release, devices: {names: [d00000, d00001]}, after: reverted}\n", ""),
    ],
    "poisoned-updates": [("strategy: FedMedian", "strategy: FedAvg")],
    "reconnect-storm": [("within: 5s, down: 5s", "down: 4m")],
    "slow-broker": [("step_timeout_s: 1200, total_timeout_s: 3600", "step_timeout_s: 2, total_timeout_s: 4")],
    "slow-model": [
        ("gates: [{expression: latency_ms <= 1.2 * previous(latency_ms), minimum_sample: 4}]", "gates: []"),
        ("soak_s: 60", "soak_s: 1"),
    ],
    "stolen-key": [("keys: [director, root 1]", "keys: [publisher]")],
    "world-drifts": [("by: 0.9", "by: 0")],
    "wrong-on-one-class": [
        ("        - {count: 1, selector: {chip: new}}\n        - {count: 1, selector: {chip: old}}\n", "")
    ],
}
"""Scenario -> text in its file that is its point, and what stands there instead."""


def small(name: str, text: str | None = None) -> Scenario:
    """The scenario, or one made from it, with few devices."""
    scenario = find(name) if text is None else parse(text.encode(), f"{name}.yaml")
    options = Settings(devices=SMALL[name], reboots=2, reconnects=2) if name == "happy-rollout" else Settings()
    return adjusted(scenario.sized(SMALL[name]), options)


def failures(report: Report) -> list[str]:
    """What was expected and was not so."""
    return [f"{one.name}: {one.detail}" for one in report.expectations if not one.passed]


def test_nothing_that_ships_is_left_out_here() -> None:
    """Each scenario has its size and its counterpart in this file."""
    assert set(shipped()) == set(SMALL) == set(WITHOUT)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_shipped_scenario_holds(name: str) -> None:
    """All that it expects is so."""
    assert failures(make(Task(small(name), seed=1))) == []


@pytest.mark.parametrize("name", sorted(WITHOUT))
def test_a_scenario_fails_without_its_point(name: str) -> None:
    """Without gate, rotation, renewal, timers or room, an expectation is not met."""
    text = shipped()[name]
    for point, instead in WITHOUT[name]:
        assert point in text
        text = text.replace(point, instead, 1)
    report = make(Task(small(name, text), seed=1))
    assert failures(report)
    assert "the run reaches its end" not in [one.name for one in report.expectations], failures(report)
