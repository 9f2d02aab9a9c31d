"""`fleetloop bench hub-kill`, its short version: two real hubs on a real PostgreSQL and a real broker."""

import json
import shutil

import pytest

from bench import hub_kill
from tests.postgres import NEEDS_POSTGRES


@NEEDS_POSTGRES
@pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed")
def test_hubs_that_are_killed_and_paused_lose_and_double_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Every device gets every version once, and every prediction is counted once."""
    assert hub_kill.run(hub_kill.Settings(short=True, json=True)) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (figures["lost"], figures["doubled"], figures["ended_by_themselves"]) == (0, 0, 0)
    assert figures["kills"] == 4
    assert figures["pauses"] == 1
    assert figures["terms"] > 1
