"""The proof about killed and paused hubs, in its short form: real hubs, a real PostgreSQL, a real broker."""

import json
import shutil
import subprocess
import sys

import pytest

from tests.servers.postgres import NEEDS_POSTGRES


@NEEDS_POSTGRES
@pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed")
def test_hubs_that_are_killed_and_paused_lose_and_double_nothing() -> None:
    """Every device gets every version once, every prediction is counted once, and no hub ends by itself."""
    command = [sys.executable, "-m", "fleetloop", "bench", "hub-kill", "--short", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, figures
    assert (figures["lost"], figures["doubled"], figures["ended_by_themselves"]) == (0, 0, 0)
    assert (figures["kills"], figures["pauses"]) == (4, 1)
    assert figures["terms"] > 1
