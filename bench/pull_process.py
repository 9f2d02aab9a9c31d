"""A share of those who pull, in a process of its own: one interpreter alone would be what is measured.

`python -m bench.pull_process` reads a `Share`, says so when all of it are connected, waits for the word to begin, and
tells what it took (`Taken`), each as a line of JSON.
"""

import asyncio
import hashlib
import logging
import os
import shutil
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from functools import partial
from pathlib import Path

import msgspec

from bench.pulling import DISK_THREADS, Costs, Gate, Pull, bare_round, device_round
from wire.release import ObjectRef
from wire.topics import Topics
from wire.transfer.chunks import CHUNK_BYTES
from wire.transfer.receiver import GROUP

READY, BEGIN = b"ready\n", b"begin\n"


class Way(StrEnum):
    """How the object comes to the device."""

    BARE = "bare"
    DEVICE = "device"
    STORE = "store"
    """Not at all: it is only hashed, written and synced, which is the least that any device has to do."""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """Who pulls what."""

    ref: ObjectRef
    port: int
    first: int
    devices: int
    loss: float
    at_once: int
    directory: str
    way: Way = Way.BARE


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What it took from the word to begin on."""

    cpu_s: float
    completed: int
    delivered: int
    asked_hub: int
    operations: dict[str, int]
    busy_s: dict[str, float]


async def together(shares: Sequence[Share]) -> tuple[float, list[Taken]]:
    """All of them at the same time, each in a process; (seconds until the last one was done, what each took)."""
    command = (sys.executable, "-m", "bench.pull_process")
    processes = [await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE) for _ in shares]
    for process, share in zip(processes, shares, strict=True):
        _tell(process, msgspec.json.encode(share) + b"\n")
    for process in processes:
        await _hear(process)
    began = time.perf_counter()
    for process in processes:
        _tell(process, BEGIN)
    taken = [msgspec.json.decode(await _hear(process), type=Taken) for process in processes]
    seconds = time.perf_counter() - began
    for process in processes:
        await process.wait()
    return seconds, taken


def _tell(process: Process, line: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(line)


async def _hear(process: Process) -> bytes:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise RuntimeError(f"a process that pulls ended with code {await process.wait()}; see its words above")
    return line


async def _whole(share: Share) -> Taken:
    pull = Pull(
        share.ref,
        Topics(),
        share.port,
        share.devices,
        share.loss,
        share.at_once,
        Path(share.directory),
        share.first,
    )
    costs, began_s = Costs(), 0.0

    async def gate() -> None:
        nonlocal began_s
        await asyncio.to_thread(_wait_for_word)
        began_s = time.process_time()

    ways = {Way.BARE: bare_round, Way.DEVICE: device_round, Way.STORE: _store_round}
    await ways[share.way](pull, costs, gate)
    return Taken(
        cpu_s=time.process_time() - began_s,
        completed=costs.completed,
        delivered=costs.delivered,
        asked_hub=costs.asked_hub,
        operations=dict(costs.operations),
        busy_s=dict(costs.busy_s),
    )


async def _store_round(pull: Pull, costs: Costs, gate: Gate) -> float:
    """The object to as many files as there are devices, by as many threads as they have; returns seconds."""
    data = os.urandom(pull.ref.bytes)
    folder = pull.directory / f"stored-{pull.first}"
    folder.mkdir()
    try:
        await gate()
        began = time.perf_counter()
        with ThreadPoolExecutor(DISK_THREADS) as threads:
            list(threads.map(partial(_store, data), (folder / str(number) for number in pull.numbers)))
        return time.perf_counter() - began
    finally:
        shutil.rmtree(folder)


def _store(data: bytes, path: Path) -> None:
    """Group by group, each durable, then the digest."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, len(data))
        for start in range(0, len(data), GROUP * CHUNK_BYTES):
            os.pwrite(descriptor, data[start : start + GROUP * CHUNK_BYTES], start)
            os.fsync(descriptor)
        hashlib.sha256(data).hexdigest()
    finally:
        os.close(descriptor)


def _wait_for_word() -> None:
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    sys.stdin.buffer.readline()


def main() -> None:
    """Pull and tell."""
    logging.basicConfig(level=logging.ERROR)
    share = msgspec.json.decode(sys.stdin.buffer.readline(), type=Share)
    taken = asyncio.run(_whole(share))
    sys.stdout.buffer.write(msgspec.json.encode(taken) + b"\n")


if __name__ == "__main__":
    main()
