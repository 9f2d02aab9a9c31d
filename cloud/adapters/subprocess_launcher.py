"""Jobs as child processes: one directory each (0700), the specification in a file (0600), progress lines on stdout.

The job's stdin is a pipe that only the hub holds: when the hub dies, however it dies, the pipe closes and the job ends.
The job holds a lock on its directory for as long as it lives, so the next hub never runs it twice at once.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import BinaryIO

import msgspec

from cloud.ports import JobError, JobKilledError, JobOrder
from wire.adapters.system import ThreadOffload

log = logging.getLogger(__name__)

SPEC_FILE = "spec.json"
LOG_FILE = "log.txt"
LOCK_FILE = "lock"
MAX_LINE_BYTES = 1024 * 1024
STOP_TIMEOUT_S = 10.0
ORPHAN_PATIENCE_S = 30.0
"""How long the process of a hub that was killed may take to notice."""
TAIL_BYTES = 600


class _LastEvent(msgspec.Struct):
    """How jobs say why they failed: those of `optimize` with a message, the aggregator with a reason."""

    message: str = ""
    reason: str = ""


class SubprocessLauncher:
    """The `cloud.ports.Launcher` on this machine."""

    def __init__(self, directory: Path, offload: ThreadOffload) -> None:
        self._directory = directory
        self._offload = offload

    def directory(self, job: str) -> str:
        """Absolute path of the job's directory."""
        return str((self._directory / job).absolute())

    async def run(self, order: JobOrder) -> AsyncGenerator[bytes, None]:
        """Launch and yield lines. Raises JobError on a bad end, JobKilledError when a signal was its end."""
        directory = self._directory / order.job
        lock = await self._offload.run(lambda: _prepare(directory, order))
        with (directory / LOG_FILE).open("ab") as errors, lock:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", order.module, str((directory / SPEC_FILE).absolute())),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=MAX_LINE_BYTES,
                pass_fds=(lock.fileno(),),
                start_new_session=True,  # Ctrl-C is for the hub, which then ends its jobs in order
            )
        last: deque[bytes] = deque(maxlen=1)
        try:
            assert process.stdout is not None
            async for line in process.stdout:
                last.append(line)
                yield line
            code = await process.wait()
        finally:
            await _end(process)
        if code != 0:
            raise (JobKilledError if code < 0 else JobError)(_why(code, last, directory / LOG_FILE))

    async def output(self, job: str, name: str) -> bytes:
        """Read a file of the job's directory; names do not lead out of it. Raises JobError."""
        path = self._directory / job / name
        if Path(name).name != name:
            raise JobError(f"the job names a file outside its directory: {name!r}")
        try:
            return await self._offload.run(path.read_bytes)
        except OSError as error:
            raise JobError(f"the job left no readable {name}: {error.strerror}") from error

    async def kept(self) -> tuple[str, ...]:
        """Directories, sorted."""
        return await self._offload.run(lambda: _folders(self._directory))

    async def discard(self, job: str) -> None:
        """What cannot be removed is logged, and tried again the next time."""
        try:
            await self._offload.run(lambda: shutil.rmtree(self._directory / job))
        except OSError as error:
            log.warning("the files of job %s cannot be removed: %s", job, error)


def _folders(directory: Path) -> tuple[str, ...]:
    if not directory.is_dir():
        return ()
    return tuple(sorted(one.name for one in directory.iterdir() if one.is_dir() and not one.is_symlink()))


def _prepare(directory: Path, order: JobOrder) -> BinaryIO:
    """Files in place; returns the locked file, whose lock lives in whoever inherits it."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = _lock(directory / LOCK_FILE)
    for name, data in order.files.items():
        path = directory / name
        if not path.exists():
            _write(path, data)
    _write(directory / SPEC_FILE, order.spec)
    return lock


def _lock(path: Path) -> BinaryIO:
    file = path.open("ab")
    deadline = time.monotonic() + ORPHAN_PATIENCE_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                file.close()
                raise JobError(
                    "its process of an earlier hub is still alive; end it, then start the job again"
                ) from error
            time.sleep(0.1)


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".part")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    temporary.replace(path)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Close its stdin and give it time to leave by itself."""
    if process.stdin is not None:
        process.stdin.close()
    if process.returncode is None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
    if process.returncode is None:
        process.kill()
        await process.wait()


def _why(code: int, last: deque[bytes], log_file: Path) -> str:
    """The last thing that the job said is usually the reason; its log has the rest."""
    said = words_of(last[0]) if last else ""
    tail = log_file.read_bytes()[-TAIL_BYTES:].decode(errors="replace").strip()
    return f"job ended with code {code}: {said or tail or 'no output'} (log: {log_file})"


def words_of(line: bytes) -> str:
    """The words of the event with which a job failed, or the line as it is."""
    text = line.decode(errors="replace").strip()
    try:
        event = msgspec.json.decode(line, type=_LastEvent)
    except msgspec.DecodeError:
        return text
    return event.message or event.reason or text
