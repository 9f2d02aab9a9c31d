"""mosquitto that wants a certificate of a test authority, for tests that need no hub. Kept by its own pid."""

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.samples.certificates import Authority
from wire.identity import Broker

NEEDS_MOSQUITTO = pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed")

_CONFIGURATION = """
user root
per_listener_settings true
listener {mtls} 127.0.0.1
cafile {directory}/ca.pem
certfile {directory}/server.pem
keyfile {directory}/server.key
crlfile {directory}/crl.pem
require_certificate true
use_identity_as_username true
use_username_as_clientid true
listener {open} 127.0.0.1
cafile {directory}/ca.pem
certfile {directory}/server.pem
keyfile {directory}/server.key
allow_anonymous true
"""


RELOADS = "Reloading config."


class CertificateBroker:
    """Two listeners with TLS: `mtls` wants a client certificate, `open` takes anybody (as an enrolment desk)."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority()
        self._directory = directory
        self._starts = 0
        self._ports = {"mtls": _free_port(), "open": _free_port()}
        certificate, key = self.authority.issue("localhost", server=True)
        (directory / "ca.pem").write_text(self.authority.pem)
        (directory / "server.pem").write_text(certificate)
        (directory / "server.key").write_text(key)
        self._write_revocations()
        (directory / "broker.conf").write_text(_CONFIGURATION.format(directory=directory, **self._ports))
        self.start()

    def at(self, listener: str = "mtls") -> Broker:
        """The address of a listener."""
        return Broker(host="localhost", port=self._ports[listener], ca_pem=self.authority.pem)

    def revoke(self, certificate: str) -> None:
        """Refuse this certificate from the next connection on."""
        self.authority.revoke(certificate)
        self._write_revocations()
        reloads = self.log().count(RELOADS)
        self.process.send_signal(signal.SIGHUP)
        while self.log().count(RELOADS) <= reloads:  # it says so, reloads, and takes a connection only then
            assert self.process.poll() is None, self.log()
            time.sleep(0.005)

    def start(self) -> None:
        """Start and wait until it listens."""
        log = (self._directory / "broker.log").open("ab")
        with log:
            command = ["mosquitto", "-v", "-c", str(self._directory / "broker.conf")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        while self.log().count(" running\n") <= self._starts:  # it listens before it can take a SIGHUP
            assert self.process.poll() is None, self.log()
            time.sleep(0.005)
        self._starts += 1

    def log(self) -> str:
        """What it said so far."""
        return (self._directory / "broker.log").read_text()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def _write_revocations(self) -> None:
        (self._directory / "crl.pem").write_bytes(self.authority.revocations())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
