"""`fleetloop demo --json` in full: what the JSON object must hold, and that the unseen never taught anybody."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run leaves the state of every process."""
    return tmp_path_factory.mktemp("d")


@pytest.fixture(scope="module")
def demo(device_python: Path, workdir: Path) -> dict[str, Any]:
    """The last line of one run."""
    command = [sys.executable, "-m", "fleetloop", "demo", "--json", "--seed", "0", "--workdir", str(workdir)]
    command += ["--agent-python", str(device_python)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_twenty_of_twenty_commit_both_versions(demo: dict[str, Any]) -> None:
    """No device failed either rollout."""
    assert demo["devices"] == 20
    assert [(row["version"], row["committed"], row["failed"]) for row in demo["versions"]] == [(1, 20, 0), (2, 20, 0)]


def test_the_fleet_learns_left_arms_and_keeps_right_ones(demo: dict[str, Any]) -> None:
    """People 8-10, running the shipped variants: left arms gain what was promised, right arms keep what they had."""
    first, second = demo["versions"]
    assert second["accuracy_unseen_left"] - first["accuracy_unseen_left"] >= 0.25
    assert first["accuracy_unseen_right"] - second["accuracy_unseen_right"] <= 0.10


def test_the_collapse_is_invisible_to_confidence(demo: dict[str, Any]) -> None:
    """On left arms version 1 is mostly wrong and says that it is sure."""
    first = demo["versions"][0]
    assert first["accuracy_unseen_left"] < 0.45
    assert first["mean_confidence_left"] > 0.75


def test_shipped_variant_is_half_the_size_and_as_good(demo: dict[str, Any]) -> None:
    """Version 1 ships at most half of the fp32 bytes within 0.01 accuracy on the hub's holdout."""
    first = demo["versions"][0]
    assert first["fp32_bytes"] >= 2 * first["bytes"]
    assert first["accuracy_hub_shipped"] >= first["accuracy_hub_fp32"] - 0.01


def test_the_unseen_sent_no_update(demo: dict[str, Any], workdir: Path) -> None:
    """Fourteen learners took part in every round; the six others were never asked, and say that they sent nothing.

    The aggregator's own files agree: who was instructed, who answered, who judged the result.
    """
    federated = demo["federated"]
    assert federated["clients"] == 14
    assert federated["updates_from_unseen"] == 0
    assert federated["asked"] == 14
    assert not any(name.startswith(("p08", "p09", "p10")) for name in federated["devices"])
    assert federated["bytes_up_per_round"] > 0
    (record,) = workdir.glob("hub/jobs/*/run.sqlite")
    heard = set(json.loads((record.parent / "result.json").read_bytes())["devices"])
    with sqlite3.connect(record) as run:
        heard |= {row[0] for row in run.execute("SELECT device FROM instruction UNION SELECT device FROM answer")}
    assert heard == set(federated["devices"])


def test_agents_are_small_and_know_no_torch(demo: dict[str, Any]) -> None:
    """Peak memory of every agent, training included, and what could be imported beside it."""
    assert demo["agent_modules"] == {"torch": False, "flwr": False}
    assert 0 < demo["agent_peak_rss_mb"] < 120
