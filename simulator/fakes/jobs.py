"""Jobs as programs of the simulation: the `cloud.ports.Launcher` whose processes are tasks that can be killed.

A job's directory outlives its process and the hub, as on a disk. Programs end with an exit code; what they say on the
way is the hub's to read.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Final

import msgspec

from cloud.adapters.subprocess_launcher import words_of
from cloud.ports import JobError, JobOrder
from simulator.core.loop import Process
from simulator.world import World
from wire.codec import encode

END: Final = b""

Directory = dict[str, bytes]
Emit = Callable[[msgspec.Struct], None]
Program = Callable[[JobOrder, Directory, Emit], Awaitable[int]]
"""(order, the job's directory, progress) -> exit code."""


class ProgramLauncher:
    """Runs `programs` by the name of their module."""

    def __init__(self, world: World, programs: Mapping[str, Program]) -> None:
        self._world = world
        self._programs = programs
        self._directories: dict[str, Directory] = {}
        self._running: dict[str, Process] = {}

    def directory(self, job: str) -> str:
        """A name that stands for the directory."""
        return f"jobs/{job}"

    async def run(self, order: JobOrder) -> AsyncGenerator[bytes, None]:
        """Yield what the program says. Raises JobError when it ends badly; closing the iterator kills it."""
        directory = self._directories.setdefault(order.job, {})
        for name, data in order.files.items():
            directory.setdefault(name, data)
        said: asyncio.Queue[bytes] = asyncio.Queue()
        codes: list[int] = []

        async def whole() -> None:
            codes.append(
                await self._programs[order.module](order, directory, lambda event: said.put_nowait(encode(event)))
            )
            said.put_nowait(END)

        process = self._running[order.job] = Process(f"job {order.job}")
        process.run(lambda: self._world.watch(asyncio.ensure_future(whole())))
        last = END
        try:
            while (line := await said.get()) != END:
                last = line
                yield line
        finally:
            self._end(order.job)
        if codes != [0]:
            raise JobError(f"job ended with code {codes[0]}: {words_of(last)}")

    async def output(self, job: str, name: str) -> bytes:
        """A file. Raises JobError."""
        await asyncio.sleep(0)
        try:
            return self._directories[job][name]
        except KeyError:
            raise JobError(f"the job left no readable {name}") from None

    def kill(self) -> None:
        """The hub is gone, and with it everything that it had launched."""
        for job in list(self._running):
            self._end(job)

    def _end(self, job: str) -> None:
        process = self._running.pop(job, None)
        if process is not None:
            self._world.loop.kill(process)
