"""One daemon per data directory: a lock that the kernel drops when the process ends, however it ends."""

import contextlib
import fcntl
import os
from pathlib import Path

from edge_agent.errors import AgentError


class AlreadyRunningError(AgentError):
    """Another agent uses this data directory."""


class DirectoryLock:
    """Held from construction until `release`."""

    def __init__(self, root: Path) -> None:
        self._descriptor = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise AlreadyRunningError(f"another agent runs in {root}; stop it or use another data directory") from error
        with contextlib.suppress(OSError):  # for people to read; a full disk must not keep the agent from starting
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let another agent run here."""
        os.close(self._descriptor)
