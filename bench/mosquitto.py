"""A mosquitto of one's own: configured as in production, on a free loopback port, ended by its own pid."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

START_S = 10.0
CONFIGURATION = """
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 1000000
max_inflight_messages 1000
max_connections -1
set_tcp_nodelay true
"""


class MosquittoMissingError(Exception):
    """The broker is not installed."""


@dataclass(frozen=True)
class Mosquitto:
    """A running broker."""

    port: int
    process: psutil.Process

    def cpu_s(self) -> float:
        """Processor time that it has used."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def rss_mb(self) -> float:
        """Resident memory, in 10^6 bytes."""
        return float(self.process.memory_info().rss / 1e6)


@contextlib.contextmanager
def mosquitto(directory: Path) -> Iterator[Mosquitto]:
    """A broker that lives as long as the context. Raises MosquittoMissingError, TimeoutError."""
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        raise MosquittoMissingError("mosquitto is not installed: install the package `mosquitto` of your system")
    port = _free_port()
    configuration = directory / "mosquitto.conf"
    configuration.write_text(CONFIGURATION.format(port=port))
    with (directory / "mosquitto.log").open("ab") as log:
        child = subprocess.Popen([program, "-c", str(configuration)], stdout=log, stderr=log)
    try:
        _wait_until_it_listens(port)
        yield Mosquitto(port, psutil.Process(child.pid))
    finally:
        child.terminate()
        child.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_it_listens(port: int) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"mosquitto does not listen on port {port} after {START_S:g} s") from error
            time.sleep(0.02)
