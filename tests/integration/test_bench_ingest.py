"""The proof about ingestion, in its short form, on either database."""

import json
import shutil
import subprocess
import sys

import pytest

from tests.servers.postgres import NEEDS_POSTGRES


@pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed")
@pytest.mark.parametrize("flag", ["--no-postgresql", pytest.param("--postgresql", marks=NEEDS_POSTGRES)])
def test_every_message_that_the_broker_took_is_in_the_database(flag: str) -> None:
    """None is sent twice, so none may be lost; and the API answers meanwhile."""
    command = [
        sys.executable,
        "-m",
        "fleetloop",
        "bench",
        "ingest",
        "--short",
        "--json",
        flag,
        "--log-level",
        "warning",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, figures
    assert figures["lost"] == 0
    assert figures["database_per_s"] > 0
    assert "device_list_p99_ms" in figures
