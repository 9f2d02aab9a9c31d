"""A mosquitto of our own for one run: tuned as in production, on a free loopback port, ended by its own pid."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from wire.identity import Broker

WAIT_S = 10.0
CONFIGURATION = """
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 1000000
max_inflight_messages 1000
max_connections -1
set_tcp_nodelay true
"""


class NoBrokerError(Exception):
    """mosquitto is not installed, or does not start; the message says what to do."""


@dataclass(frozen=True)
class Mosquitto:
    """A running broker that lets anybody in."""

    broker: Broker
    process: psutil.Process

    def cpu_s(self) -> float:
        """Processor time that it has used."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def rss_mb(self) -> float:
        """Resident memory, in 10^6 bytes."""
        return float(self.process.memory_info().rss / 1e6)


def find() -> str:
    """Where the program is. Raises NoBrokerError."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise NoBrokerError("mosquitto is not installed; apt-get install mosquitto")
    return found


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Mosquitto]:
    """A broker as long as the context lasts. Its configuration and log are in `directory`. Raises NoBrokerError."""
    program = find()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        broker = Broker(host="127.0.0.1", port=probe.getsockname()[1])
    config = directory / "mosquitto.conf"
    config.write_text(CONFIGURATION.format(port=broker.port))
    with (directory / "mosquitto.log").open("wb") as log:
        process = subprocess.Popen([program, "-c", str(config)], stdout=log, stderr=log)
    try:
        _wait(broker, process)
        yield Mosquitto(broker, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(WAIT_S)


def _wait(broker: Broker, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((broker.host, broker.port), WAIT_S):
            return
        time.sleep(0.02)
    raise NoBrokerError(f"mosquitto does not listen on port {broker.port}; exit code {process.poll()}")
