"""Blocking work inline, as one turn of the loop: the `wire.ports.Offload` of tests and simulation."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from wire.ports import Clock

T = TypeVar("T")


class SlowOffload:
    """Work that takes its time: as long for every call, before it."""

    __slots__ = ("_clock", "_takes_ns")

    def __init__(self, clock: Clock, takes_ns: int) -> None:
        self._clock = clock
        self._takes_ns = takes_ns

    async def run(self, call: Callable[[], T]) -> T:
        """Return what `call()` returns."""
        await self._clock.sleep(self._takes_ns)
        return call()


class InlineOffload:
    """No thread: other tasks get a turn before the call, none during it."""

    async def run(self, call: Callable[[], T]) -> T:
        """Return what `call()` returns."""
        await asyncio.sleep(0)
        return call()
