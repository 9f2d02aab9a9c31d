"""Runs the embedded broker as a child process, tells it its users, and starts it again whenever it dies."""

import asyncio
import contextlib
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from cloud.adapters.broker_child import Start, Told, Users
from cloud.adapters.log_files import make_room
from cloud.ports import BrokerError, BrokerUser, Roster
from wire.identity import Broker

log = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 20.0
RESTART_PAUSE_S = 0.5
STOP_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Listener:
    """Where to listen, under which name devices find it, and the TLS files (None = without TLS, tests only)."""

    bind: str
    port: int
    advertised: str
    certificate: Path | None = None
    key: Path | None = None
    ca_pem: str = ""
    grace_s: int = 10
    """A client counts as gone when it has been silent for its keep-alive and this long."""
    patience_s: float = 20.0
    """How long a first start is tried again."""


class EmbeddedBroker:
    """The `cloud.ports.BrokerControl` for amqtt in a child process of the hub."""

    credential: Literal["password"] = "password"
    enrolment: None = None

    def __init__(self, listener: Listener, log_file: Path) -> None:
        self._listener = listener
        self._port = listener.port
        self._log_file = log_file
        self._users: dict[str, BrokerUser] = {}
        self._number = 0
        self._told = asyncio.Condition()
        self._in_force = -1
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def endpoint(self) -> Broker:
        """Where devices connect; the port is known once the broker has been started."""
        return Broker(host=self._listener.advertised, port=self._port, ca_pem=self._listener.ca_pem)

    @property
    def pid(self) -> int | None:
        """Process id of the running child."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start the child and keep it running. Raises BrokerError when it does not come up in time.

        The port may still be held for a moment by the child of a hub that was killed.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._listener.patience_s
        while True:
            try:
                await self._launch()
                break
            except BrokerError:
                if loop.time() > deadline:
                    raise
                await asyncio.sleep(RESTART_PAUSE_S)
        self._keeper = asyncio.create_task(self._keep(), name="embedded-broker")

    async def stop(self) -> None:
        """End the child."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self._end()

    async def admit(self, roster: Roster) -> None:
        """Make exactly these users known, end the connections of others, and wait until the broker says so.

        Raises BrokerError.
        """
        self._users = dict(roster.users)
        self._number += 1
        number = self._number
        self._tell_users()
        await self._wait_for(number)

    async def _keep(self) -> None:
        while True:
            process = self._process
            if process is not None:
                log.warning("embedded broker ended with code %s; starting it again", await process.wait())
            await asyncio.sleep(RESTART_PAUSE_S)
            try:
                await self._launch()
            except (BrokerError, OSError) as error:  # also: no process, no file to be had now
                log.error("embedded broker: %s", error)

    async def _launch(self) -> None:
        self._in_force = -1
        make_room(self._log_file)
        with self._log_file.open("ab") as errors:
            self._process = process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "cloud.adapters.broker_child"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is for the hub, which then ends its broker last
            )
        self._reader = asyncio.create_task(self._listen(process), name="embedded-broker-answers")
        place = self._listener
        self._write(Start(place.bind, self._port, str(place.certificate or ""), str(place.key or ""), place.grace_s))
        try:
            await self._wait_for(0)
        except BrokerError:
            await self._end()
            raise
        self._tell_users()
        await self._wait_for(self._number)

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            told = msgspec.json.decode(line, type=Told)
            async with self._told:
                self._port, self._in_force = told.port, told.users
                self._told.notify_all()
        await process.wait()  # only then does it count as ended for those who wait for an answer
        async with self._told:
            self._told.notify_all()

    async def _wait_for(self, number: int) -> None:
        process = self._process

        def settled() -> bool:
            return self._in_force >= number or process is None or process.returncode is not None

        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S), self._told:
                await self._told.wait_for(settled)
        except TimeoutError as error:
            raise BrokerError(f"embedded broker did not answer within {ANSWER_TIMEOUT_S:.0f} s") from error
        if self._in_force < number:
            where = f"{self._listener.bind}:{self._port}"
            raise BrokerError(f"embedded broker ended at once; is {where} in use? See {self._log_file}")

    def _tell_users(self) -> None:
        self._write(Users(self._number, tuple(self._users[name] for name in sorted(self._users))))

    def _write(self, message: Start | Users) -> None:
        if self._process is not None and self._process.stdin is not None and self._process.returncode is None:
            self._process.stdin.write(msgspec.json.encode(message) + b"\n")

    async def _end(self) -> None:
        process = self._process
        if process is None:
            return
        if process.returncode is None and process.stdin is not None:
            process.stdin.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        if process.returncode is None:
            process.kill()
            await process.wait()
        await self._reader
        self._process = None
