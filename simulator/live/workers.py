"""The processes that hold the devices: started, told and heard by the one that runs the whole."""

import asyncio
import contextlib
import resource
import sys
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

import msgspec

from simulator.live.snapshot import Snapshot, together
from simulator.live.worker import Command, Order

SPARE_FILES = 200
"""Open files of a process beside those of its sessions."""
PORTS_PER_ADDRESS = 5_000
"""Local ports that sessions of one source address take at most: after a storm as many wait for their end."""
LOOPBACK_ADDRESSES = 250
MAX_LINE_BYTES = 1 << 20
LEAVE_TIMEOUT_S = 120.0


class LimitError(Exception):
    """So many devices do not fit; says which limit and what to do."""


def shares(devices: int, processes: int) -> list[tuple[int, int]]:
    """(first device, count) of each process."""
    bounds = [devices * number // processes for number in range(processes + 1)]
    return [(first, end - first) for first, end in pairwise(bounds) if end > first]


def raise_file_limit(sessions: int, who: str) -> None:
    """Let this process and its children open as many files as the system permits.

    Raises:
        LimitError: that is less than `who` needs for so many sessions.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most != resource.RLIM_INFINITY and sessions + SPARE_FILES > most:
        raise LimitError(
            f"{who}: {sessions} sessions need {sessions + SPARE_FILES} open files and the system permits {most}: "
            "fewer devices, more --processes, a broker elsewhere, or a higher limit (ulimit -Hn)"
        )


def addresses(devices: int, asked: int, *, loopback: bool) -> tuple[str, ...]:
    """Where the sessions come from; "" = wherever the system says.

    Raises:
        LimitError: there are not so many.
    """
    count = asked or max(1, -(-devices // PORTS_PER_ADDRESS))
    if not loopback:
        if asked > 1:
            raise LimitError("--source-addresses are addresses of the loopback interface: the broker is elsewhere")
        return ("",)
    if count > LOOPBACK_ADDRESSES:
        raise LimitError(f"--source-addresses: at most {LOOPBACK_ADDRESSES}")
    return tuple(f"127.0.0.{number}" for number in range(1, count + 1))


class Workers:
    """Running processes."""

    def __init__(self, processes: Sequence[asyncio.subprocess.Process]) -> None:
        self._processes = processes
        self._newest: dict[int, Snapshot] = {}
        self._together: Snapshot | None = None
        self._listeners = [asyncio.create_task(self._listen(process)) for process in processes]

    @property
    def now(self) -> Snapshot:
        """How all devices stand, as told last."""
        if self._together is None:  # asked for twenty times a second, told once
            self._together = together(self._newest.values())
        return self._together

    @property
    def lost(self) -> str:
        """Which process has ended though it should not; empty: none."""
        codes = [process.returncode for process in self._processes if process.returncode is not None]
        return f"a process of devices ended with code {codes[0]}" if codes else ""

    async def command(self, command: Command) -> None:
        """Tell all of them."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(msgspec.json.encode(command) + b"\n")
            await process.stdin.drain()

    async def leave(self) -> None:
        """Have all devices say goodbye, and return when their processes have ended."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_TIMEOUT_S):
                await asyncio.gather(*(process.wait() for process in self._processes))
        for process in self._processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
        await asyncio.gather(*self._listeners)

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self._newest[process.pid] = msgspec.json.decode(line, type=Snapshot)
            self._together = None


@contextlib.asynccontextmanager
async def working(orders: Sequence[Order]) -> AsyncIterator[Workers]:
    """Processes with these orders, as long as the context lasts."""
    processes = []
    for order in orders:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "simulator.live.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=MAX_LINE_BYTES,
        )
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(order) + b"\n")
        processes.append(process)
    workers = Workers(processes)
    try:
        yield workers
    finally:
        await workers.leave()
