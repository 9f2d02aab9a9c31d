"""The transfer and delta proofs in their short versions, against a real mosquitto where there is one."""

import json
import shutil

import pytest

from bench import delta, transfer


@pytest.mark.skipif(shutil.which("mosquitto", path="/usr/sbin:/usr/bin") is None, reason="mosquitto is not installed")
def test_every_device_completes_and_the_hub_publishes_each_chunk_once(capsys: pytest.CaptureFixture[str]) -> None:
    """What is lost is pulled again by the device that lost it; nobody asks the hub."""
    assert transfer.run(transfer.Settings(short=True, json=True)) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["hub_publishes"] == figures["chunks"]
    assert figures["completed"] == figures["devices"] * figures["rounds"]
    assert figures["asked_hub"] == 0
    assert figures["delivered_over_needed"] <= 1.05


def test_a_delta_of_a_fine_tune_is_small_and_all_deltas_unpack(capsys: pytest.CaptureFixture[str]) -> None:
    """Real networks through the real passes; what is not worth it is not offered."""
    assert delta.run(delta.Settings(short=True, json=True)) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    ratios = {(row["model"], row["change"], row["precision"]): row for row in rows}
    assert ratios["wide", "last-layer fine-tune", "fp32"]["ratio"] < 0.05
    assert ratios["wide", "last-layer fine-tune", "fp32"]["offered"]
    assert not ratios["watch", "last-layer fine-tune", "fp32"]["offered"]
    assert ratios["wide", "full retrain", "fp32"]["ratio"] > 0.8
