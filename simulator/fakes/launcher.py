"""Jobs without processes: the `cloud.ports.Launcher` of tests and simulation plays back what it was given."""

from collections.abc import AsyncGenerator, Mapping

from cloud.ports import JobError, JobOrder


class ScriptedLauncher:
    """`lines`: module -> lines of progress. `files`: name -> what every job leaves behind. Anything else fails."""

    def __init__(self, lines: Mapping[str, tuple[bytes, ...]], files: Mapping[str, bytes]) -> None:
        self._lines = lines
        self._files = files

    def directory(self, job: str) -> str:
        """A name that stands for the directory."""
        return f"jobs/{job}"

    async def run(self, order: JobOrder) -> AsyncGenerator[bytes, None]:
        """Yield the module's lines. Raises JobError when it has none."""
        if order.module not in self._lines:
            raise JobError(f"nothing is scripted for {order.module}")
        for line in self._lines[order.module]:
            yield line

    async def output(self, job: str, name: str) -> bytes:
        """A file. Raises JobError when there is none of that name."""
        if name not in self._files:
            raise JobError(f"job {job} left no {name}")
        return self._files[name]
