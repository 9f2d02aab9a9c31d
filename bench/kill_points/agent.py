"""The real agent as a process, on a data directory of its own, bare or inside strace."""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
END_S = 20.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where one device lives, and the Python that runs it."""

    directory: Path
    claim: Path
    python: str

    @property
    def socket(self) -> Path:
        """The local API."""
        return self.directory / "agent.sock"

    @property
    def log(self) -> Path:
        """What the agent says."""
        return self.directory.with_suffix(".log")

    def fill(self, template: Path | None) -> None:
        """The data directory as it is in `template`; without one, there is none yet."""
        shutil.rmtree(self.directory, ignore_errors=True)
        if template is not None:
            shutil.copytree(template, self.directory, ignore=shutil.ignore_patterns("agent.sock"))
        self.log.unlink(missing_ok=True)

    def command(self) -> list[str]:
        """The command line."""
        agent = [self.python, "-m", "fleetloop", "agent", "--data-dir", str(self.directory)]
        return [*agent, "--claim", str(self.claim), "--telemetry-interval-s", "0.5"]


class Running:
    """A started agent."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ended(self, timeout_s: float) -> bool:
        """Does it end by itself within this time?"""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), timeout_s)
        return self._process.returncode is not None

    async def kill(self) -> None:
        """SIGKILL for it and for strace around it: they are a process group of their own."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await asyncio.wait_for(self._process.wait(), END_S)


async def start(place: Place, strace: Sequence[str] = ()) -> Running:
    """Start it, without waiting for anything."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    with place.log.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *strace, *place.command(), cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    return Running(process)
