"""One run of the installer child: an order goes in, lines come out and are answered, the last one is the verdict.

Whatever becomes of the child is known here by one error with its reason: crash, time-out and nonsense are all the same
to the callers. It is spawned, never forked, in a session of its own, and never outlives its run.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

from edge_agent.errors import AgentError
from edge_agent.installer import MODULE, Order
from wire.codec import encode

COMMAND: Final = (sys.executable, "-m", MODULE)

Reply = Callable[[bytes], Awaitable[bytes | None]]
"""A line of the child -> the line to answer with; None: that was the verdict."""


class NoVerdictError(AgentError):
    """The child ended, or was ended, without a verdict; the message says how."""


async def run_child(command: tuple[str, ...], order: Order, time_limit_s: float, reply: Reply, line_limit: int) -> None:
    """Carry out `order` in a fresh process and hand each line of at most `line_limit` bytes to `reply`.

    Raises:
        NoVerdictError: it did not start, crashed, was not done in time, or said something else. What `reply` raises.
    """
    try:
        async with asyncio.timeout(time_limit_s), _spawned(command, line_limit) as child:
            await _converse(child, encode(order), reply, line_limit)
    except TimeoutError as error:
        raise NoVerdictError(f"the installer child was not done after {time_limit_s:g} s") from error
    except OSError as error:
        raise NoVerdictError(f"the installer child cannot be started: {error}") from error


@contextlib.asynccontextmanager
async def _spawned(command: tuple[str, ...], line_limit: int) -> AsyncIterator[asyncio.subprocess.Process]:
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=_environment(),
        start_new_session=True,
        limit=line_limit,
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
            await child.communicate()  # `wait` alone would wait for ever while unread output blocks the pipe


async def _converse(child: asyncio.subprocess.Process, order: bytes, reply: Reply, line_limit: int) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    answer: bytes | None = order
    while answer is not None:
        with contextlib.suppress(ConnectionError):  # it ended early; its exit code says more
            child.stdin.write(answer + b"\n")
            await child.stdin.drain()
        answer = await reply(await _line(child, line_limit))
    child.stdin.close()
    if await child.stdout.read(1):
        raise NoVerdictError("the installer child wrote more than its verdict")
    await _ended_well(child)


async def _line(child: asyncio.subprocess.Process, limit: int) -> bytes:
    assert child.stdout is not None
    try:
        return (await child.stdout.readuntil(b"\n"))[:-1]
    except asyncio.LimitOverrunError as error:
        raise NoVerdictError(f"the installer child wrote more than {limit} bytes in a line") from error
    except asyncio.IncompleteReadError as error:
        await _ended_well(child)
        raise NoVerdictError("the installer child gave no verdict") from error


async def _ended_well(child: asyncio.subprocess.Process) -> None:
    code = await child.wait()
    if code < 0:
        raise NoVerdictError(f"the installer child was killed by {_signal_name(-code)}")
    if code != 0:
        raise NoVerdictError(f"the installer child failed with exit code {code}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have no name
        return f"signal {number}"


def _environment() -> dict[str, str]:
    """The child imports the very code that this process runs, and starts no thread pools."""
    here = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(part for part in (here, os.environ.get("PYTHONPATH", "")) if part)
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
