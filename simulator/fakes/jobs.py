"""Jobs as programs of the simulation: the `cloud.ports.Launcher` whose processes are tasks that can be killed.

A job's directory outlives its process and the hub, as on a disk. Programs end with an exit code; what they say on the
way is the hub's to read.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Final

import msgspec

from cloud.adapters.subprocess_launcher import words_of
from cloud.ports import JobError, JobKilledError, JobOrder
from simulator.core.loop import Process
from simulator.world import World
from wire.codec import encode

END: Final = b""
KILLED: Final = -9

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
        self._running: dict[str, tuple[Process, Callable[[int], None]]] = {}
        """Job -> its process, and what to call when that has ended with a code."""

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

        def over(code: int) -> None:
            codes.append(code)
            said.put_nowait(END)

        async def whole() -> None:
            program = self._programs[order.module]
            over(await program(order, directory, lambda event: said.put_nowait(encode(event))))

        process = Process(f"job {order.job}")
        self._running[order.job] = process, over
        process.run(lambda: self._world.watch(asyncio.ensure_future(whole())))
        last = END
        try:
            while (line := await said.get()) != END:
                last = line
                yield line
        finally:
            self._end(order.job)
        if codes != [0]:
            kind = JobKilledError if codes[0] < 0 else JobError
            raise kind(f"job ended with code {codes[0]}: {words_of(last)}")

    async def output(self, job: str, name: str) -> bytes:
        """A file. Raises JobError."""
        await asyncio.sleep(0)
        try:
            return self._directories[job][name]
        except KeyError:
            raise JobError(f"the job left no readable {name}") from None

    async def kept(self) -> tuple[str, ...]:
        """Jobs with a directory."""
        return tuple(self._directories)

    async def discard(self, job: str) -> None:
        """Forget it."""
        del self._directories[job]

    def kill_jobs(self) -> int:
        """SIGKILL for every job's process, which its hub will notice; how many there were."""
        running = list(self._running.values())
        for process, over in running:
            self._world.loop.kill(process)
            over(KILLED)
        return len(running)

    def vanish(self) -> None:
        """The hub is gone, and with it everything that it had launched."""
        for job in list(self._running):
            self._end(job)

    def _end(self, job: str) -> None:
        process, _ = self._running.pop(job, (None, None))
        if process is not None:
            self._world.loop.kill(process)
