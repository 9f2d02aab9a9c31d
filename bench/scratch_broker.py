"""A mosquitto of its own for a proof: on a free loopback port, without a disk, ended by its own process handle."""

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_TIMEOUT_S = 10.0
CONFIGURATION = """listener {port} 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
persistence false
max_inflight_messages 1000
max_queued_messages 100000
"""


@contextmanager
def mosquitto() -> Iterator[int]:
    """Its port. Raises FileNotFoundError: mosquitto is not installed."""
    with socket.socket() as probe, tempfile.TemporaryDirectory() as folder:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        probe.close()
        configuration = Path(folder) / "mosquitto.conf"
        configuration.write_text(CONFIGURATION.format(port=port))
        process = subprocess.Popen(["mosquitto", "-c", str(configuration)], stderr=subprocess.DEVNULL)
        try:
            _wait(port)
            yield port
        finally:
            process.terminate()
            process.wait()


def _wait(port: int) -> None:
    ends = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.02)
