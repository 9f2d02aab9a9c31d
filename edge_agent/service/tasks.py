"""Ownership of running tasks: each has a name, and whoever owns the agent learns of every exception at once."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Tasks:
    """Starts tasks, keeps them from being forgotten, and ends them all on `stop`."""

    __slots__ = ("_on_crash", "_running")

    def __init__(self, on_crash: Callable[[BaseException], None]) -> None:
        self._on_crash = on_crash
        self._running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run `work` as a task. An exception in it is a bug or a broken machine: `on_crash` gets it."""
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    async def stop(self) -> None:
        """Cancel what runs and wait until it has ended."""
        running = tuple(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not self._running:
            self._running = set()  # at rest, which is most of the time, without the table that a set keeps
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_crash(error)
