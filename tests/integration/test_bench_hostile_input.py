"""The proofs against hostile input at the size that a change has to pass: minutes, the longest tests of the suite."""

import json

import pytest

from bench import attacks, fuzz, model_gate

pytestmark = pytest.mark.timeout(1200)


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    """The JSON object of a proof."""
    figures: dict[str, object] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return figures


def test_a_hundred_thousand_inputs_for_every_parser(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing but the documented errors, nothing unsound taken, no input that takes long."""
    assert fuzz.run(fuzz.Settings(json=True)) == 0
    assert last_line(capsys)["unhandled"] == 0


def test_five_thousand_damaged_models(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever they do to the child, the daemon's side reads a verdict, and the good model still passes."""
    assert model_gate.run(model_gate.Settings(short=True, json=True)) == 0
    assert last_line(capsys)["good_refused"] == 0


def test_all_attacks(capsys: pytest.CaptureFixture[str]) -> None:
    """Forged, replayed, frozen, slowed and stolen: the reason names the guard, and the guard is what it took."""
    assert attacks.run(attacks.Settings(json=True)) == 0
    figures = last_line(capsys)
    assert figures["stopped"] == figures["guards_removed_detected"] == figures["attacks"]
    assert figures["residual"] == ["stolen director key: older listed release above the floor"]
