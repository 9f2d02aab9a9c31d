"""Runs mosquitto as a child of the hub: writes its files, starts it again when it dies, and keeps out who must be out.

A revocation is in force for live connections, too: the rules are reloaded (SIGHUP), which silences a barred device at
once, then its connection is taken over with a certificate in its name, which ends it; the list of revoked certificates
refuses the next one. mosquitto is started by the first `admit`, so it never listens before it knows whom to refuse.
"""

import asyncio
import contextlib
import datetime
import logging
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from cloud.adapters.certificates import write
from cloud.adapters.device_certificates import DeviceAuthority
from cloud.adapters.log_files import make_room
from cloud.adapters.mosquitto_files import (
    ACCESS,
    CONFIGURATION,
    ENROLMENT_ACCESS,
    PASSWORDS,
    REVOKED,
    Seat,
    access_rules,
    configuration,
    enrolment_rules,
    password_line,
)
from cloud.adapters.mqtt_takeover import take_over
from cloud.core.access import PROBE_USER
from cloud.ports import BrokerError, Roster
from wire.identity import Broker

log = logging.getLogger(__name__)

SAFE_VERSION = (2, 0, 21)
"""Older ones have known holes (CVE-2023-28366, -0809, -3592; queues that lose messages)."""
START_TIMEOUT_S = 20.0
FIRST_PAUSE_S = 0.2
LAST_PAUSE_S = 30.0
STOP_TIMEOUT_S = 5.0
TAKEOVER_LIFE = datetime.timedelta(minutes=10)
MAX_LINE_BYTES = 64 * 1024


def find(path: str) -> str:
    """The mosquitto binary: the one that is named, or the one of the system. Raises BrokerError."""
    found = shutil.which(path) if path else shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
    if found is None:
        where = f"there is no program {path!r}" if path else "mosquitto is not installed"
        raise BrokerError(f"{where}: install the package 'mosquitto' of your system, or set mosquitto_path")
    return found


class MosquittoBroker:
    """The `cloud.ports.BrokerControl` for mosquitto in a child process of the hub."""

    credential: Literal["certificate"] = "certificate"

    def __init__(self, program: str, seat: Seat, authority: DeviceAuthority, enrol_password: str) -> None:
        self._program = program
        self._seat = seat
        self._authority = authority
        self._enrol_password = enrol_password
        self._roster = Roster()
        """In force."""
        self._running = asyncio.Event()
        self._version: tuple[int, ...] = ()
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def endpoint(self) -> Broker:
        """The listener for certificates."""
        return self._at(self._seat.port)

    @property
    def enrolment(self) -> Broker:
        """The listener for the enrolment password."""
        return self._at(self._seat.enrol_port)

    @property
    def pid(self) -> int | None:
        """Process id of the running child."""
        return self._process.pid if self._process is not None else None

    async def admit(self, roster: Roster) -> None:
        """Write what is new and have it reloaded; end the connections of who is out. Raises BrokerError."""
        before = self._roster
        if self._keeper is None:
            self._write_files(roster)
            await self._start()
        elif (before.revoked, before.barred) != (roster.revoked, roster.barred):
            self._write_rules(roster)
            replaced = {one.device for one in {*roster.revoked} - {*before.revoked}}
            await self._apply(replaced | (roster.barred - before.barred))
        self._roster = roster

    async def stop(self) -> None:
        """End the child."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        process = self._process
        if process is not None and process.returncode is None:
            process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    def _at(self, port: int, host: str = "") -> Broker:
        return Broker(host=host or self._seat.advertised, port=port, ca_pem=self._seat.tls.ca_pem)

    # Its files.

    def _write_files(self, roster: Roster) -> None:
        self._seat.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._write(CONFIGURATION, configuration(self._seat).encode())
        self._write(ENROLMENT_ACCESS, enrolment_rules(self._seat.topic_root).encode())
        self._write(PASSWORDS, password_line(self._enrol_password).encode())
        self._write_rules(roster)

    def _write_rules(self, roster: Roster) -> None:
        now = datetime.datetime.now(datetime.UTC)
        self._write(REVOKED, self._authority.revocation_list(roster.revoked, now))
        self._write(ACCESS, access_rules(self._seat.topic_root, roster.barred).encode())

    def _write(self, name: str, content: bytes) -> None:
        try:
            write(self._seat.directory / name, content, 0o600)
        except OSError as error:
            raise BrokerError(f"cannot write {self._seat.directory / name}: {error.strerror}") from error

    # Its process.

    async def _start(self) -> None:
        self._keeper = asyncio.create_task(self._keep(), name="mosquitto")
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._running.wait()
        except TimeoutError as error:
            ports = f"{self._seat.port} and {self._seat.enrol_port}"
            where = f"are the ports {ports} of {self._seat.bind} in use? See {self._log_file}"
            raise BrokerError(f"mosquitto did not start within {START_TIMEOUT_S:.0f} s; {where}") from error

    async def _keep(self) -> None:
        """Start it again and again; the longer it fails to come up, the more rarely."""
        pause = FIRST_PAUSE_S
        while True:
            how = await self._live()
            pause = FIRST_PAUSE_S if self._running.is_set() else min(LAST_PAUSE_S, 2 * pause)
            self._running.clear()
            log.warning("mosquitto %s; starting it again in %.1f s (%s)", how, pause, self._log_file)
            await asyncio.sleep(pause)

    async def _live(self) -> str:
        """One process from its start to its end; how it ended."""
        try:
            process = await self._launch()
        except OSError as error:
            return f"could not be started: {error.strerror}"
        assert process.stderr is not None
        async for line in process.stderr:
            self._note(line)
            self._heard(line)
        return f"ended with code {await process.wait()}"

    def _note(self, line: bytes) -> None:
        """A full disk costs the line, not the broker, which would wait for who reads it."""
        make_room(self._log_file)
        with contextlib.suppress(OSError), self._log_file.open("ab") as journal:
            journal.write(line)

    async def _launch(self) -> asyncio.subprocess.Process:
        command = [self._program, "-c", str(self._seat.directory / CONFIGURATION)]
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cloud.adapters.end_with_parent", *command),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=MAX_LINE_BYTES,
            start_new_session=True,  # Ctrl-C is for the hub, which then ends its broker last
        )
        return self._process

    @property
    def _log_file(self) -> Path:
        return self._seat.directory / "mosquitto.log"

    def _heard(self, line: bytes) -> None:
        """It takes signals from the line "running" on."""
        version = re.search(rb"mosquitto version (\d+)\.(\d+)\.(\d+) running", line)
        if version is not None:
            self._running.set()
            self._judge(tuple(int(part) for part in version.groups()))

    def _judge(self, version: tuple[int, ...]) -> None:
        """Said once for each version that is found."""
        if version < SAFE_VERSION and version != self._version:
            found, good = (".".join(map(str, one)) for one in (version, SAFE_VERSION))
            log.warning("mosquitto %s has known security holes: use %s or later", found, good)
        self._version = version

    async def _apply(self, gone: Iterable[str]) -> None:
        """Have the rules reloaded, then end the connections of who is out. Raises BrokerError.

        mosquitto looks for the signal every time it has waited for packets, and forgets one that comes while it
        reloads. Connecting takes it several turns, so once the probe is accepted the reload is over.
        """
        if self._process is None or not self._running.is_set():
            return  # it reads the files when it comes up, and has no connections
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGHUP)
        here, now = self._at(self._seat.port, self._seat.own_host), datetime.datetime.now(datetime.UTC)
        for name in (PROBE_USER, *sorted(gone)):
            try:
                await take_over(here, name, *self._authority.login(name, TAKEOVER_LIFE, now))
            except (OSError, TimeoutError) as error:
                if self._running.is_set():
                    raise BrokerError(
                        f"mosquitto took no connection as {name}: {error}; see {self._log_file}"
                    ) from error
