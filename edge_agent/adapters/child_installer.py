"""Runs the installer child. Whatever becomes of it is a verdict: crash, time-out and nonsense are reasons."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from edge_agent.installer import Request, Verdict
from edge_agent.ports import CanaryRequest, CanaryVerdict
from wire.codec import MAX_CONTROL_BYTES, decode, encode
from wire.errors import WireError

MODULE = "edge_agent.installer"


class ChildInstaller:
    """Implements `edge_agent.ports.Installer`."""

    def __init__(self, locate: Callable[[str], str], command: tuple[str, ...] = (sys.executable, "-m", MODULE)) -> None:
        self._locate = locate
        self._command = command

    async def canary(self, request: CanaryRequest) -> CanaryVerdict:
        """Try the model in a fresh process."""
        began = time.monotonic()
        try:
            verdict = await self._run(request)
        except OSError as error:
            verdict = Verdict(reason=f"the installer child cannot be started: {error}")
        return CanaryVerdict(
            reason=verdict.reason,
            golden=verdict.golden,
            p50_ms=verdict.p50_ms,
            rss_bytes=verdict.rss_bytes,
            seconds=time.monotonic() - began,
        )

    async def _run(self, request: CanaryRequest) -> Verdict:
        child = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,
        )
        order = encode(
            Request(
                model=self._locate(request.model),
                golden=self._locate(request.golden),
                logits=request.logits,
                tolerance=request.tolerance,
                cpu_s=max(1, int(request.time_limit_s)),
            )
        )
        try:
            output = await asyncio.wait_for(_ask(child, order), request.time_limit_s)
        except TimeoutError:
            return Verdict(reason=f"the installer child was not done after {request.time_limit_s:g} s")
        finally:
            if child.returncode is None:
                child.kill()
                await child.communicate()  # `wait` alone would wait for ever while unread output blocks the pipe
        return _verdict(child.returncode, output)


async def _ask(child: asyncio.subprocess.Process, order: bytes) -> bytes:
    """What the child says until it ends, or the beginning of it when it says more than a verdict can have."""
    assert child.stdin is not None
    assert child.stdout is not None
    with contextlib.suppress(ConnectionError):  # it ended before it read its order
        child.stdin.write(order)
        await child.stdin.drain()
    child.stdin.close()
    try:
        return await child.stdout.readexactly(MAX_CONTROL_BYTES + 1)
    except asyncio.IncompleteReadError as error:
        await child.wait()
        return error.partial


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have no name
        return f"signal {number}"


def _verdict(returncode: int | None, output: bytes) -> Verdict:
    if len(output) > MAX_CONTROL_BYTES:
        return Verdict(reason=f"the installer child wrote more than {MAX_CONTROL_BYTES} bytes")
    if returncode is not None and returncode < 0:
        return Verdict(reason=f"the installer child was killed by {_signal_name(-returncode)}")
    if returncode != 0:
        return Verdict(reason=f"the installer child failed with exit code {returncode}")
    try:
        verdict = decode(output, Verdict)
    except WireError as error:
        return Verdict(reason=f"the installer child gave no verdict: {error}")
    if not verdict.reason and verdict.golden is None:
        return Verdict(reason="the installer child gave no golden result")
    return verdict


def _environment() -> dict[str, str]:
    """The child imports the very code that this process runs, and starts no thread pools."""
    here = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(part for part in (here, os.environ.get("PYTHONPATH", "")) if part)
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
