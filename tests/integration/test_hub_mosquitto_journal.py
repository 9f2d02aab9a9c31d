"""What mosquitto says is kept in a file of the hub's, which costs neither the broker nor the disk."""

import asyncio
import os
import signal
from pathlib import Path

from cloud.adapters import log_files
from tests.integration.test_hub_mosquitto import running
from tests.servers.certificate_broker import NEEDS_MOSQUITTO
from tests.servers.clients import connected

pytestmark = NEEDS_MOSQUITTO


def test_a_full_disk_costs_its_journal_and_nothing_else(tmp_path: Path) -> None:
    """It comes up, and comes back, although no line of it can be kept."""

    async def scenario() -> None:
        (tmp_path / "broker").mkdir()
        (tmp_path / "broker" / "mosquitto.log").symlink_to("/dev/full")
        async with (
            running(tmp_path) as hub,
            connected(hub.broker.endpoint, hub.login("hub")) as boss,
        ):
            assert hub.broker.pid is not None
            os.kill(hub.broker.pid, signal.SIGKILL)
            await boss.down()
            await boss.up_again()

    asyncio.run(scenario())


def test_its_journal_does_not_grow_for_ever(tmp_path: Path) -> None:
    """What it says goes on in a new file."""
    journal = tmp_path / "broker" / "mosquitto.log"
    journal.parent.mkdir()
    with journal.open("wb") as old:
        old.truncate(log_files.MAX_BYTES)

    async def scenario() -> None:
        async with running(tmp_path):
            assert b"running" in journal.read_bytes()

    asyncio.run(scenario())
    assert journal.with_name("mosquitto.log.1").stat().st_size == log_files.MAX_BYTES
    assert journal.stat().st_size < log_files.MAX_BYTES
