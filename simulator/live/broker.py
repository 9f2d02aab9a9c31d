"""The plain broker of a live run: mosquitto on loopback without TLS, which believes names.

Everything else is as in production: queues, access rules per name, a listener of its own for the enrolment with its
password. What is spared is the cost of handshakes, so that one machine can hold ten thousand sessions.
"""

import asyncio
import contextlib
import datetime
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cloud.adapters import certificates
from cloud.adapters.device_certificates import DeviceAuthority
from cloud.adapters.mosquitto_broker import find
from cloud.adapters.mosquitto_files import access_rules, enrolment_rules, general, password_line
from cloud.bootstrap import OpenBroker
from cloud.brokers import BrokerAccess
from cloud.ports import Roster
from simulator.live.hub import until
from wire.adapters.mqtt_link import Credentials
from wire.identity import Broker
from wire.topics import DEFAULT_ROOT

LOOPBACK = "127.0.0.1"
CERTIFICATE_LIFE = datetime.timedelta(days=14)
START_TIMEOUT_S = 10.0
RESTART_AFTER_S = 0.2

_LISTENERS = """\
listener {port} 127.0.0.1
allow_anonymous true
use_username_as_clientid true
acl_file {directory}/access.acl

listener {enrol_port} 127.0.0.1
allow_anonymous false
password_file {directory}/enrolment.passwd
acl_file {directory}/enrolment.acl
"""


@dataclass
class PlainBroker:
    """The `cloud.ports.BrokerControl` of a broker that keeps nobody out."""

    endpoint: Broker
    enrolment: Broker | None = None
    mosquitto: "PlainMosquitto | None" = None
    """If it is ours."""
    credential: Literal["certificate"] = "certificate"

    @property
    def pid(self) -> int | None:
        """Process id of the broker, if it is ours."""
        return self.mosquitto.pid if self.mosquitto else None

    async def admit(self, roster: Roster) -> None:
        """Names are believed."""


class PlainMosquitto:
    """mosquitto in a child process, started again whenever it dies."""

    def __init__(self, directory: Path, ports: tuple[int, int], enrol_password: str) -> None:
        self.broker, self.enrolment = (Broker(host=LOOPBACK, port=port) for port in ports)
        self.pid: int | None = None
        self._directory = directory
        self._enrol_password = enrol_password
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return when it listens. Raises BrokerError: it is not installed. OverdueError: it does not come up."""
        self._write()
        self._keeper = asyncio.create_task(self._keep(find("")), name="mosquitto")
        listens = lambda: _listens(self.enrolment)  # noqa: E731 - it opens this one last
        await until(f"mosquitto listens, see {self._directory / 'mosquitto.log'}", listens, START_TIMEOUT_S)

    async def stop(self) -> None:
        """End it."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    def _write(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        ports = {"port": self.broker.port, "enrol_port": self.enrolment.port}
        files = {
            "mosquitto.conf": general() + _LISTENERS.format(directory=self._directory, **ports),
            "access.acl": access_rules(DEFAULT_ROOT, ()),
            "enrolment.acl": enrolment_rules(DEFAULT_ROOT),
            "enrolment.passwd": password_line(self._enrol_password),
        }
        for name, content in files.items():
            path = self._directory / name
            path.touch(mode=0o600)
            path.write_text(content)

    async def _keep(self, program: str) -> None:
        command = [program, "-c", str(self._directory / "mosquitto.conf")]
        while True:
            with (self._directory / "mosquitto.log").open("ab") as log:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "cloud.adapters.end_with_parent", *command),
                    stdin=asyncio.subprocess.DEVNULL,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is for who runs it
                )
            self.pid = process.pid
            try:
                await process.wait()
            except asyncio.CancelledError:
                process.terminate()
                await process.wait()
                raise
            await asyncio.sleep(RESTART_AFTER_S)


def opened(directory: Path, ports: tuple[int, int]) -> OpenBroker:
    """For `cloud.bootstrap.started`: a mosquitto of our own."""

    async def open_broker(enrol_password: str, stack: contextlib.AsyncExitStack) -> BrokerAccess:
        mosquitto = PlainMosquitto(directory / "broker", ports, enrol_password)
        stack.push_async_callback(mosquitto.stop)
        await mosquitto.start()
        return _access(PlainBroker(mosquitto.broker, mosquitto.enrolment, mosquitto), directory, enrol_password)

    return open_broker


def found(directory: Path, broker: Broker) -> OpenBroker:
    """For `cloud.bootstrap.started`: a broker that is there already, with one listener for everybody."""

    async def open_broker(enrol_password: str, stack: contextlib.AsyncExitStack) -> BrokerAccess:
        return _access(PlainBroker(broker), directory, enrol_password)

    return open_broker


def _access(control: PlainBroker, directory: Path, enrol_password: str) -> BrokerAccess:
    """Devices get certificates from the hub as in production, and need not show them to this broker."""
    tls = certificates.ensure(directory / "keys" / "tls", (LOOPBACK,), datetime.datetime.now(datetime.UTC))
    authority = DeviceAuthority(tls.authority.parent, CERTIFICATE_LIFE)
    return BrokerAccess(control, Credentials, enrol_password, {}, authority)


def _listens(broker: Broker) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((broker.host, broker.port), 1):
        return True
    return False
