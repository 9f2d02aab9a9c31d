"""A PostgreSQL server on a free loopback port, kept by its own pid, as an unprivileged user. For proofs and tests.

Its files lie in a directory of its own under the system's temporary directory, since the server's user cannot enter one
that belongs to somebody else.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from bench.mosquitto_fleet import free_port

PATIENCE_S = 30.0
USUAL_PLACES = ("/usr/local/bin", *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True))


def find(program: str) -> str | None:
    """A program of the server, where packages put it."""
    return shutil.which(program) or shutil.which(program, path=os.pathsep.join(USUAL_PLACES))


def installed() -> bool:
    """Can a server be started here?"""
    return find("initdb") is not None and find("postgres") is not None


class PostgresServer:
    """A running server; every call of `database` makes a new, empty database."""

    def __init__(self, *, durable: bool = False) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="fleetloop-postgres-"))
        self.port = free_port()
        self._made = 0
        self._as: dict[str, object] = {}
        if os.getuid() == 0:  # the server refuses to run as root
            nobody = pwd.getpwnam("nobody")
            os.chown(self.directory, nobody.pw_uid, nobody.pw_gid)
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._data = self.directory / "data"
        self._run("initdb", "-D", self._data, "-U", "hub", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
        self._durable = durable
        self._process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        """Start it, the first time or after `halt`, and wait until it serves."""
        place = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": self._data}
        quick = {} if self._durable else {"fsync": "off", "full_page_writes": "off"}
        settings = {**place, **quick, "max_connections": 60}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(  # type: ignore[call-overload]
                [str(find("postgres")), "-D", str(self._data), *options], stdout=log, stderr=log, **self._as
            )
        self._wait()

    def halt(self) -> None:
        """End it without ceremony; its files stay."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(PATIENCE_S)

    def url(self, database: str) -> str:
        """The address of a database."""
        return f"postgresql://hub@127.0.0.1:{self.port}/{database}"

    def database(self) -> str:
        """The address of a new, empty database."""
        self._made += 1
        name = f"fleet{self._made}"
        self.say(f"CREATE DATABASE {name}")
        return self.url(name)

    def say(self, statement: str, database: str = "postgres") -> None:
        """Have a statement executed by itself."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement.encode())

    def stop(self) -> None:
        """Stop it at once and remove its files."""
        self.halt()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(find(program)), *map(str, arguments)]
        subprocess.run(command, check=True, capture_output=True, cwd=self.directory, **self._as)  # type: ignore[call-overload]

    def _wait(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                self.say("SELECT 1")
                return
            assert self._process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < deadline, "the server does not come up"
            time.sleep(0.05)


@contextlib.contextmanager
def postgres_server(*, durable: bool = False) -> Iterator[PostgresServer]:
    """A server for as long as the block."""
    server = PostgresServer(durable=durable)
    try:
        yield server
    finally:
        server.stop()
