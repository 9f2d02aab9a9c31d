"""Bare clients in a process of their own: `python -m bench.bare_fetch` reads a `Fetch` and writes a `Fetched`."""

import asyncio
import logging
import sys
from pathlib import Path

import msgspec

from bench.pulling import Costs, Pull, bare_round
from wire.release import ObjectRef
from wire.topics import Topics


class Fetch(msgspec.Struct, frozen=True, kw_only=True):
    """What every one of them fetches, once."""

    ref: ObjectRef
    port: int
    clients: int
    at_once: int


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """What it took. Connecting is not counted: the devices are connected before a rollout begins."""

    seconds: float
    cpu_s: float
    chunks: int


async def fetched(fetch: Fetch) -> Fetched:
    """Fetch it in another process."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.bare_fetch"), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await process.communicate(msgspec.json.encode(fetch))
    return msgspec.json.decode(told, type=Fetched)


def main() -> None:
    """Fetch and tell."""
    logging.basicConfig(level=logging.ERROR)
    fetch = msgspec.json.decode(sys.stdin.buffer.read(), type=Fetch)
    pull = Pull(fetch.ref, Topics(), fetch.port, fetch.clients, 0.0, fetch.at_once, Path())
    costs = Costs()
    seconds = asyncio.run(bare_round(pull, costs))
    told = Fetched(seconds=seconds, cpu_s=costs.cpu_s, chunks=costs.delivered)
    sys.stdout.buffer.write(msgspec.json.encode(told))


if __name__ == "__main__":
    main()
