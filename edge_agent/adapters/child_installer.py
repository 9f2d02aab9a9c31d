"""Runs the installer child. Whatever becomes of it is a verdict: crash, time-out and nonsense are reasons."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from edge_agent.installer import Limits, Order, Request, Verdict
from edge_agent.ports import CanaryRequest, CanaryVerdict, UnpackRequest
from edge_agent.unpack import Unpacked, UnpackOrder, address_space_bytes
from wire.codec import MAX_CONTROL_BYTES, decode, encode
from wire.errors import WireError

MODULE = "edge_agent.installer"
Told = TypeVar("Told", Verdict, Unpacked)


class ChildInstaller:
    """Implements `edge_agent.ports.Installer`."""

    def __init__(self, locate: Callable[[str], str], command: tuple[str, ...] = (sys.executable, "-m", MODULE)) -> None:
        self._locate = locate
        self._command = command

    async def canary(self, request: CanaryRequest) -> CanaryVerdict:
        """Try the model in a fresh process."""
        began = time.monotonic()
        what = Request(
            model=self._locate(request.model),
            golden=self._locate(request.golden),
            logits=request.logits,
            tolerance=request.tolerance,
        )
        order = Order(limits=Limits(cpu_s=max(1, int(request.time_limit_s))), what=what)
        verdict = await self._carry_out(order, Verdict, request.time_limit_s)
        if not verdict.reason and verdict.golden is None:
            verdict = Verdict(reason="the installer child gave no golden result")
        return CanaryVerdict(
            reason=verdict.reason,
            golden=verdict.golden,
            p50_ms=verdict.p50_ms,
            rss_bytes=verdict.rss_bytes,
            seconds=time.monotonic() - began,
        )

    async def unpack(self, request: UnpackRequest) -> str:
        """Unpack a delta in a fresh process."""
        what = UnpackOrder(
            base=self._locate(request.base),
            delta=self._locate(request.delta),
            target=self._locate(request.target),
            length=request.length,
        )
        limits = Limits(
            cpu_s=max(1, int(request.time_limit_s)),
            address_space_bytes=address_space_bytes(request.base_bytes, request.length),
            file_bytes=request.length,
        )
        return (await self._carry_out(Order(limits=limits, what=what), Unpacked, request.time_limit_s)).reason

    async def _carry_out(self, order: Order, kind: type[Told], time_limit_s: float) -> Told:
        """Whatever becomes of the child is its answer."""
        try:
            returncode, output = await self._run(encode(order), time_limit_s)
            return _answer(returncode, output, kind)
        except TimeoutError:
            return kind(reason=f"the installer child was not done after {time_limit_s:g} s")
        except OSError as error:
            return kind(reason=f"the installer child cannot be started: {error}")

    async def _run(self, order: bytes, time_limit_s: float) -> tuple[int | None, bytes]:
        child = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,
        )
        try:
            output = await asyncio.wait_for(_ask(child, order), time_limit_s)
        finally:
            if child.returncode is None:
                child.kill()
                await child.communicate()  # `wait` alone would wait for ever while unread output blocks the pipe
        return child.returncode, output


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


def _answer(returncode: int | None, output: bytes, kind: type[Told]) -> Told:
    if len(output) > MAX_CONTROL_BYTES:
        return kind(reason=f"the installer child wrote more than {MAX_CONTROL_BYTES} bytes")
    if returncode is not None and returncode < 0:
        return kind(reason=f"the installer child was killed by {_signal_name(-returncode)}")
    if returncode != 0:
        return kind(reason=f"the installer child failed with exit code {returncode}")
    try:
        return decode(output, kind)
    except WireError as error:
        return kind(reason=f"the installer child gave no verdict: {error}")


def _environment() -> dict[str, str]:
    """The child imports the very code that this process runs, and starts no thread pools."""
    here = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(part for part in (here, os.environ.get("PYTHONPATH", "")) if part)
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
