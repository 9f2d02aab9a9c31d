"""Inspects each upload in a fresh child process, which bounds its own memory, time and files before it opens the file.

What kills or hangs the child is the file's refusal. A child that cannot be started says nothing of the file.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Final

import msgspec

from cloud.ports import Inspection, InspectorError, Staged

MODULE: Final = "cloud.inspection"
AT_ONCE: Final = 2
PATIENCE_S: Final = 60.0
MAX_VERDICT_BYTES: Final = 2 * 1024 * 1024


class InspectionChild:
    """The `cloud.ports.Inspector`."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._patience_s = patience_s

    async def inspect(self, staged: Staged) -> Inspection:
        """Run the child and read its verdict."""
        async with self._turns:
            code, said = await self._run(staged.path)
        if said is None:
            return _refused(f"describing it takes more than {MAX_VERDICT_BYTES} bytes")
        if code is None:
            return _refused(f"inspecting it was not done after {self._patience_s:g} s")
        if code < 0:
            return _refused(f"inspecting it ended with a signal: {signal.strsignal(-code) or -code}")
        try:
            return msgspec.json.decode(said, type=Inspection)
        except msgspec.DecodeError as error:
            raise InspectorError(
                f"the inspection failed with exit code {code}; the hub's log has the details"
            ) from error

    async def _run(self, path: str) -> tuple[int | None, bytes | None]:
        """Exit code (None: it was not done in time) and output (None: there was too much of it)."""
        try:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", MODULE, path),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                env=_environment(),
                start_new_session=True,
                limit=MAX_VERDICT_BYTES,
            )
        except OSError as error:
            raise InspectorError(f"the inspection cannot be started: {error}") from error
        try:
            async with asyncio.timeout(self._patience_s):
                assert child.stdout is not None
                said = await child.stdout.readline()
                return await child.wait(), said
        except TimeoutError:
            return None, b""
        except ValueError:  # of readline, beyond the limit
            return None, None
        finally:
            if child.returncode is None:
                child.kill()
                await child.communicate()


def _refused(reason: str) -> Inspection:
    return Inspection(None, {}, reason)


def _environment() -> dict[str, str]:
    """The child imports the very code that this process runs, starts no thread pools and knows no secrets of ours."""
    here = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(part for part in (here, os.environ.get("PYTHONPATH", "")) if part)
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
