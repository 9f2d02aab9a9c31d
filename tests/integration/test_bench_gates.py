"""The proofs of gates and of the tick, short."""

import json

import pytest

from bench import gates, rollout_tick


def test_gates_keep_their_rates_on_synthetic_fleets(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing bad gets through, nothing good is halted more often than declared, and never more devices meet it."""
    gates.run(gates.Settings(short=True, json=True))
    figures = json.loads(capsys.readouterr().out)
    assert figures["false_halt_rate"] <= 0.05
    assert figures["missed_halt_rate"] <= 0.05
    assert max(figures["median_devices_exposed_to_bad"].values()) < 0.25 * figures["devices"]


def test_a_tick_takes_all_reports_and_starts_the_next_wave(capsys: pytest.CaptureFixture[str]) -> None:
    """How long it takes is for the full version; that nothing is lost is for both."""
    rollout_tick.run(rollout_tick.Settings(short=True, json=True))
    figures = json.loads(capsys.readouterr().out)
    assert figures["correct"]
    assert figures["small"]["correct"]
    assert figures["rows_written"] > figures["reports"]
