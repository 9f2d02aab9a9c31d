"""Blocking work inline, as one turn of the loop: the `wire.ports.Offload` of tests and simulation."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class InlineOffload:
    """No thread: other tasks get a turn before the call, none during it."""

    async def run(self, call: Callable[[], T]) -> T:
        """Return what `call()` returns."""
        await asyncio.sleep(0)
        return call()
