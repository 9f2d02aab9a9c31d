"""Real time, real randomness, real threads."""

import asyncio
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from wire.ports import SECOND, Timer

T = TypeVar("T")

_ELAPSED = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """The machine's clocks."""

    def now_ns(self) -> int:
        """Wall clock, nanoseconds since 1970."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """Monotonic clock, nanoseconds."""
        return time.monotonic_ns()

    def elapsed_ns(self) -> int:
        """As `monotonic_ns`, and while the machine is suspended, too, where the system has such a clock (Linux has)."""
        return time.clock_gettime_ns(_ELAPSED)

    async def sleep(self, ns: int) -> None:
        """Sleep on the running loop."""
        await asyncio.sleep(ns / SECOND)

    def call_later(self, ns: int, call: Callable[[], None]) -> Timer:
        """Schedule on the running loop."""
        return asyncio.get_running_loop().call_later(ns / SECOND, call)


class SystemIds:
    """Ids and secrets from the operating system."""

    def new(self) -> str:
        """32 random hex digits."""
        return secrets.token_hex(16)

    def secret(self) -> str:
        """32 random bytes, base64url."""
        return secrets.token_urlsafe(32)


class ThreadOffload:
    """Blocking work in a small thread pool of its own."""

    def __init__(self, workers: int = 1, name: str = "offload") -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=name)

    async def run(self, call: Callable[[], T]) -> T:
        """Run `call` in the pool."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    def close(self) -> None:
        """Wait for running work and end the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
