"""Live mode: the agent's real services over a real mosquitto, in processes of their own, in an operator's hands."""

import asyncio
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from simulator.live import main
from simulator.live.fleet import ClaimsError, fleet, own_hub
from simulator.live.hub import OverdueError, RealHub, until
from simulator.live.settings import Settings
from simulator.live.workers import LimitError, addresses, raise_file_limit, shares
from wire.codec import encode

needs_mosquitto = pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed")


def sim_live(*options: str) -> "subprocess.CompletedProcess[str]":
    """Run `fleetloop sim live`."""
    command = [sys.executable, "-m", "fleetloop", "sim", "live", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@needs_mosquitto
def test_a_storm_in_the_middle_of_a_rollout_leaves_nobody_behind() -> None:
    """Twenty devices in two processes; the broker is killed while they install."""
    done = sim_live(
        *("--devices", "20", "--processes", "2", "--model-bytes", "200000", "--storm-after-s", "0.5"),
        *("--predict-every-s", "1", "--json"),
    )
    report = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, report
    assert (report["lost"], report["fleet"]["crashes"]) == (0, [])
    assert report["fleet"]["running"] == {"proof 1": 20}
    assert 0 < report["storm_s"] <= report["met_s"]
    assert report["fleet"]["connects"] >= 40
    assert report["fleet"]["shared_bytes"] < report["fleet"]["disk_bytes"] / 4


@needs_mosquitto
def test_claims_of_a_hub_that_runs_bring_devices_that_stay_and_leave_in_order(tmp_path: Path) -> None:
    """Its operator sees them come, by two processes and addresses, lose their connections, come back, leave."""
    path, settings = tmp_path / "claims.jsonl", Settings(devices=6)

    async def scene() -> None:
        async with own_hub(settings, tmp_path) as hub:
            claims = await hub.claims("guest", 6)
            path.write_bytes(b"".join(encode(claim) + b"\n" for claim in claims))
            guests = Settings(devices=6, claims=str(path), processes=2, source_addresses=2, telemetry_interval_s=0.5)
            async with fleet(guests, tmp_path, None, lambda *_: None) as one:
                await one.joined()
                assert list(sessions(claims[0].broker.port).values()) == [{"127.0.0.1", "127.0.0.2"}] * 2
                assert (await one.storm()).back_s > 0
                assert one.workers.now.connects == 12
                assert await one.lost(0) == 0
            await until("all have said goodbye", functools.partial(nobody_online, hub), 20)

    asyncio.run(scene())


@needs_mosquitto
def test_what_ctrl_c_cut_short_has_not_passed(tmp_path: Path) -> None:
    """Versions were to be rolled out, and the devices were sent home first: nobody may read that as a success."""

    def show(stage: str, done: int, total: int) -> None:
        if stage == "connected" and done == total:
            os.kill(os.getpid(), signal.SIGINT)

    report = asyncio.run(main._Run(Settings(devices=2), show).play(tmp_path))
    assert (report.passed, report.rollouts, report.trouble) == (
        False,
        (),
        "stopped before every version was everywhere",
    )


def sessions(port: int) -> dict[int, set[str]]:
    """Process id -> addresses from which it is connected to the broker on this port."""
    found: dict[int, set[str]] = {}
    for child in psutil.Process().children():
        for one in child.net_connections("tcp"):
            if one.raddr and one.raddr.port == port:
                found.setdefault(child.pid, set()).add(one.laddr.ip)
    return found


async def nobody_online(hub: RealHub) -> bool:
    """Does the hub know that all are gone?"""
    return await hub.online() == 0


@needs_mosquitto
def test_the_short_proof_loses_nobody() -> None:
    """A hundred devices, bare clients beside them, and a killed broker."""
    command = [sys.executable, "-m", "fleetloop", "bench", "sim-live", "--short", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, figures
    assert (figures["connected"], figures["lost"], figures["crashes"]) == (100, 0, [])


def test_devices_are_divided_without_a_remainder() -> None:
    """Every device is in one process."""
    assert shares(10, 3) == [(0, 3), (3, 3), (6, 4)]
    assert shares(2, 3) == [(0, 1), (1, 1)]


def test_sessions_come_from_as_many_addresses_as_their_ports_take() -> None:
    """One loopback address for 5,000 sessions, none beyond loopback."""
    assert addresses(10_000, 0, loopback=True) == ("127.0.0.1", "127.0.0.2")
    assert addresses(10_000, 0, loopback=False) == ("",)
    with pytest.raises(LimitError, match="loopback"):
        addresses(10, 2, loopback=False)


def test_too_many_sessions_for_the_files_of_a_process_are_refused_with_advice() -> None:
    """The message names the limit and what to do."""
    with pytest.raises(LimitError, match="more --processes"):
        raise_file_limit(10**9, "a process of devices", "or more --processes")


def test_a_broker_that_nobody_runs_is_named_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator reads what the connection failed of, not only that time is up."""
    monkeypatch.setattr("simulator.live.fleet.HUB_TIMEOUT_S", 0.5)

    async def scene() -> None:
        async with own_hub(Settings(devices=1, broker="mqtt://127.0.0.1:1"), tmp_path):
            pass

    with pytest.raises(OverdueError, match=r"cannot connect to 127\.0\.0\.1:1"):
        asyncio.run(scene())


def test_claims_that_are_too_few_are_named(tmp_path: Path) -> None:
    """Nothing is started."""
    path = tmp_path / "claims.jsonl"
    path.write_text("{}\n")

    async def scene() -> None:
        async with fleet(Settings(devices=2, claims=str(path)), tmp_path, None, lambda *_: None):
            pass

    with pytest.raises(ClaimsError, match="holds 1 claims for 2 devices"):
        asyncio.run(scene())


def test_a_missing_claims_file_is_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and a sentence."""
    assert main.run(Settings(claims=os.devnull + "/none")) == 2
    assert "--claims" in capsys.readouterr().err
