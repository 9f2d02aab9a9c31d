"""Child processes of the demonstration: each has a name, a log file, a gentle stop and a hard kill."""

import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

STOP_GRACE_S = 15.0


class ProcessError(Exception):
    """A process of the demonstration ended by itself; carries the end of its log."""


class Process:
    """One program. It is started with a small environment of its own and writes its log beside its state."""

    def __init__(self, name: str, command: Sequence[str], directory: Path) -> None:
        self.name = name
        self._command = list(command)
        self._log = directory / f"{name}.log"
        self._child: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        child = self._child
        return None if child is None else child.pid

    def start(self) -> None:
        """Start, or start again."""
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise ProcessError if the child has ended by itself."""
        child = self._child
        if child is not None and child.poll() is not None:
            tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
            raise ProcessError(f"{self.name} ended with code {child.returncode}:\n{tail}")

    def stop(self) -> None:
        """SIGTERM, and SIGKILL only if that is ignored."""
        self.ask_to_stop()
        self.wait_stopped()

    def ask_to_stop(self) -> None:
        """SIGTERM; returns at once."""
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()

    def wait_stopped(self) -> None:
        """Wait for the end, at most STOP_GRACE_S, then kill."""
        if self._child is None:
            return
        try:
            self._child.wait(STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._child = None

    def kill(self) -> None:
        """SIGKILL, as a power cut would; its children are left to notice by themselves."""
        child, self._child = self._child, None
        if child is not None:
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
            child.wait()

    def peak_rss_bytes(self) -> int:
        """High-water mark of the resident set (0 where the system does not say)."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return 0
        line = next((line for line in status.splitlines() if line.startswith("VmHWM:")), "VmHWM: 0 kB")
        return int(line.split()[1]) * 1024

    def tree_rss_bytes(self) -> int:
        """Resident memory of the process and its children now, pages they share counted once (PSS where known)."""
        pid = self.pid
        if pid is None:
            return 0
        try:
            root = psutil.Process(pid)
            return sum(_memory(process) for process in (root, *root.children(recursive=True)))
        except psutil.Error:
            return 0


def _memory(process: psutil.Process) -> int:
    info = process.memory_full_info()
    return int(getattr(info, "pss", 0) or info.rss)


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _environment() -> dict[str, str]:
    keep = ("PATH", "HOME", "LANG", "TMPDIR", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")
    single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "FLWR_TELEMETRY_ENABLED": "0"}
    return {name: os.environ[name] for name in keep if name in os.environ} | single | {"PYTHONUNBUFFERED": "1"}
