"""The proof about killed brokers, in its short form."""

import json
import shutil
import subprocess
import sys

import pytest


@pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed")
def test_a_rollout_survives_its_broker_and_nothing_is_lost_or_doubled() -> None:
    """Five kills, one storm of a hundred devices, and a revoked device of which nothing is accepted."""
    command = [sys.executable, "-m", "fleetloop", "bench", "broker-kill", "--short", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, figures
    assert (figures["kills"], figures["storms"], figures["converged"]) == (5, 1, 100)
    assert (figures["lost"], figures["doubled"], figures["revoked_accepted"]) == (0, 0, 0)
