"""A mosquitto of our own for one run: loopback, a free port, nothing kept, ended by its own process."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from wire.identity import Broker

WAIT_S = 10.0


class NoBrokerError(Exception):
    """mosquitto is not installed, or does not start; the message says what to do."""


def find() -> str:
    """Where the program is. Raises NoBrokerError."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise NoBrokerError("mosquitto is not installed; apt-get install mosquitto")
    return found


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Broker]:
    """A broker that lets anybody in. Its configuration and log are in `directory`. Raises NoBrokerError."""
    program = find()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        broker = Broker(host="127.0.0.1", port=probe.getsockname()[1])
    config = directory / "mosquitto.conf"
    config.write_text(f"listener {broker.port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
    with (directory / "mosquitto.log").open("wb") as log:
        process = subprocess.Popen([program, "-c", str(config)], stdout=log, stderr=log)
    try:
        _wait(broker, process)
        yield broker
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
