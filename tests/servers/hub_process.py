"""`fleetloop hub` as a process of its own, for tests, and `fleetloop keys` as an operator calls it."""

import contextlib
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.servers.clients import free_port

PATIENCE_S = 60.0


class HubProcess:
    """`fleetloop hub` on free ports."""

    def __init__(self, directory: Path, *options: object) -> None:
        self.directory = directory
        self._options = options
        self.port, self.broker_port = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where its API is."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start and wait until it serves and its broker is connected."""
        arguments = ("--data-dir", self.directory, "--port", self.port, "--broker-port", self.broker_port)
        arguments += self._options
        command = [sys.executable, "-m", "fleetloop", "hub", *map(str, arguments)]
        with (self.directory.parent / "hub.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE_S
        while not self._healthy():
            assert self.process.poll() is None, (self.directory.parent / "hub.log").read_text()
            assert time.monotonic() < deadline, "the hub does not come up"
            time.sleep(0.05)

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Call the API as the administrator."""
        key = (self.directory / "admin.key").read_text().strip()
        answer = httpx.request(
            method, f"{self.url}/api/v1{path}", json=body, headers={"Authorization": f"Bearer {key}"}
        )
        assert answer.status_code < 300, answer.text
        return answer.json()

    def children(self) -> list[psutil.Process]:
        """Its child processes."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: int) -> int:
        """Send a signal and wait for the end."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def _healthy(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            answer = httpx.get(f"{self.url}/api/v1/health")
            return answer.status_code == 200 and answer.json()["status"] == "ok"
        return False


def keys_command(hub: HubProcess, action: str, **options: object) -> str:
    """`fleetloop keys ACTION` with the hub's address and its administrator's key; what it printed."""
    given = {"hub_url": hub.url, "api_key_file": hub.directory / "admin.key", **options}
    flags = [str(part) for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
    command = [sys.executable, "-m", "fleetloop", "keys", action, *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
