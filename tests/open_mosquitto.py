"""A mosquitto that lets anybody in, on a free loopback port, kept by its own pid. For tests that need a real broker."""

import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from wire.identity import Broker

NEEDS_MOSQUITTO = pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed")


class OpenMosquitto:
    """Runs until `stop`."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = Broker(host="127.0.0.1", port=int(probe.getsockname()[1]))
        configuration = directory / "mosquitto.conf"
        configuration.write_text(
            f"listener {self.address.port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n"
        )
        self._process = subprocess.Popen(["mosquitto", "-c", configuration], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not self._listens():
            assert self._process.poll() is None, "mosquitto does not start"
            assert time.monotonic() < deadline, "mosquitto does not listen"
            time.sleep(0.02)

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self.address.host, self.address.port)) == 0
