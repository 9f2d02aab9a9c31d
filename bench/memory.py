"""How much memory does the agent take: the whole process tree of a real daemon, before and with a small model?

A real hub with mosquitto, a real daemon that enrols with a certificate, a convolutional network of 35 kB. Proportional
set size (PSS) divides pages among all processes that map them, so it flatters a machine where many agents run; the
resident size (RSS) is what the daemon takes where it is alone, and what is judged. All in 10^6 bytes.
"""

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
import psutil

from bench.mosquitto_fleet import OverdueError, RealHub, free_port, real_hub, until
from bench.result import Outcome, finish
from bench.watch_like import CLASSES, INPUT_SHAPE, files_of, released
from edge_agent.bootstrap import SETTLED_S
from edge_agent.client import AgentClient, AgentError
from wire.codec import encode

IDLE_TARGET_MB = 45.0
MODEL_TARGET_MB = 80.0
SYSTEM_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
LOOK_S = 0.01
START_S = 60.0
PREDICTIONS = 200
HEAVY = ("numpy", "onnxruntime", "tuf", "securesystemslib", "torch")
ROOT = Path(__file__).parents[1]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked of this proof."""

    agent_python: Annotated[str, msgspec.Meta(description="Python of the device; default: this one")] = ""
    rest_s: Annotated[float, msgspec.Meta(description="seconds of idleness that are looked at, each time", gt=0)] = 20.0
    short: Annotated[bool, msgspec.Meta(description="look for two seconds only")] = False
    json: Annotated[bool, msgspec.Meta(description="print nothing but the JSON object")] = False


@dataclass(frozen=True, slots=True)
class Size:
    """Memory of some processes, in 10^6 bytes."""

    pss: float
    rss: float


@dataclass
class Watcher:
    """Looks at the daemon's children while it installs."""

    daemon: psutil.Process
    peak: Size = Size(0.0, 0.0)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    async def watch(self) -> None:
        """Until `stopped`."""
        while not self.stopped.is_set():
            with suppress(psutil.NoSuchProcess):
                for child in self.daemon.children(recursive=True):
                    size = size_of(child.pid)
                    self.peak = Size(max(self.peak.pss, size.pss), max(self.peak.rss, size.rss))
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stopped.wait(), LOOK_S)


def run(settings: Settings) -> int:
    """Measure once; 1 when a target is missed."""
    if shutil.which("mosquitto", path=SYSTEM_PATH) is None:
        print("mosquitto is not installed: install the package of that name", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as directory:
        figures = asyncio.run(measure(Path(directory), settings))
    passed = (
        figures["idle_rss_mb"] <= IDLE_TARGET_MB
        and figures["model_rss_mb"] <= MODEL_TARGET_MB
        and not figures["imported_before_a_model"]
    )
    return finish(Outcome(figures, passed), as_json=settings.json)


async def measure(directory: Path, settings: Settings) -> dict[str, Any]:
    """All figures of one daemon's life."""
    rest_s = 2.0 if settings.short else settings.rest_s
    async with real_hub(directory, (free_port(), free_port())) as hub:
        claim = directory / "claim.json"
        claim.write_bytes(encode((await hub.claims("memory", 1))[0]))
        process = _start(directory, claim, settings.agent_python)
        try:
            return await _life(hub, psutil.Process(process.pid), directory / "agent" / "agent.sock", rest_s)
        except OverdueError as error:
            raise OverdueError(f"{error}; the daemon said: {(directory / 'agent.log').read_text()[-2000:]}") from error
        finally:
            process.terminate()
            process.wait()


async def _life(hub: RealHub, daemon: psutil.Process, socket: Path, rest_s: float) -> dict[str, Any]:
    await until("the daemon is connected", lambda: _status(socket, lambda status: status["connected"]), START_S)
    idle = await _rest(daemon, rest_s)
    before = imported(daemon.pid)
    watcher = Watcher(daemon)
    watching = asyncio.create_task(watcher.watch())
    files = files_of()
    version = await hub.enter(files, lambda numbers, request: released(numbers, files, request))
    rollout = await hub.roll_out(version, {})
    await until("the rollout is over", lambda: hub.settled(rollout), START_S)
    watcher.stopped.set()
    await watching
    await asyncio.to_thread(_predict, socket)
    model = await _rest(daemon, rest_s)
    return {
        "idle_pss_mb": idle.pss,
        "idle_rss_mb": idle.rss,
        "model_pss_mb": model.pss,
        "model_rss_mb": model.rss,
        "installer_peak_pss_mb": watcher.peak.pss,
        "installer_peak_rss_mb": watcher.peak.rss,
        "model_bytes": len(files.model),
        "imported_before_a_model": before,
        "imported_with_a_model": imported(daemon.pid),
        "threads": daemon.num_threads(),
        "predictions": PREDICTIONS,
    }


def _start(directory: Path, claim: Path, python: str) -> "subprocess.Popen[bytes]":
    interpreter = python or os.environ.get("FLEETLOOP_AGENT_PYTHON") or sys.executable
    command = [interpreter, "-m", "fleetloop", "agent", "--data-dir", str(directory / "agent"), "--claim", str(claim)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MALLOC_"))}
    with (directory / "agent.log").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)


async def _status(socket: Path, good: Callable[[dict[str, Any]], bool]) -> bool:
    def ask() -> bool:
        try:
            with AgentClient(socket) as client:
                return good(client.status())
        except AgentError:
            return False

    return await asyncio.to_thread(ask)


def _predict(socket: Path) -> None:
    window = bytes(4 * INPUT_SHAPE[0] * INPUT_SHAPE[1])
    with AgentClient(socket) as client:
        for _ in range(PREDICTIONS):
            answer = client.predict(window)
            assert answer.name in CLASSES


async def _rest(daemon: psutil.Process, seconds: float) -> Size:
    """The median over a while of doing nothing."""
    await asyncio.sleep(SETTLED_S + 1)
    sizes = []
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.2)
        tree = [daemon, *daemon.children(recursive=True)]
        each = [size_of(process.pid) for process in tree]
        sizes.append(Size(sum(one.pss for one in each), sum(one.rss for one in each)))
    return Size(
        round(statistics.median(one.pss for one in sizes), 1), round(statistics.median(one.rss for one in sizes), 1)
    )


def size_of(pid: int) -> Size:
    """Memory of one process, from its `smaps_rollup`; nothing when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return Size(0.0, 0.0)
    found = {line.split(":")[0]: line.split()[1] for line in lines if line.endswith("kB")}
    return Size(*(round(int(found.get(name, 0)) * 1024 / 1e6, 1) for name in ("Pss", "Rss")))


def imported(pid: int) -> list[str]:
    """Which heavy libraries' files the process has mapped."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    return [name for name in HEAVY if f"/{name}/" in maps]
