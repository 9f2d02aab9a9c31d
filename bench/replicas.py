"""Hubs that share a database and a broker, as processes that can be killed and paused, for proofs.

Each life of a hub is a process of its own, forked off a server that has the hub's modules loaded already: what counts
is what it does, not how long Python takes to import. They share `keys` and `objects`, as replicas do.
"""

import asyncio
import contextlib
import datetime
import logging
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.mosquitto_fleet import until
from cloud.adapters import mosquitto_files
from cloud.adapters.certificates import ensure
from cloud.adapters.mosquitto_files import Seat
from cloud.bootstrap import started
from cloud.settings import Settings

MODULES = ["bench.replicas", "cloud.web.pages"]
SHARED = ("keys", "objects")
PATIENCE_S = 20.0
HOSTS = ("127.0.0.1", "localhost")


class Replica:
    """One hub of several, in whatever process it lives now."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(MODULES)
        self._process: Any = None

    @property
    def holder(self) -> str:
        """As which it stands in the leader's row."""
        return f"hub@{self.settings.replica}"

    def start(self) -> None:
        """A new life."""
        self._process = self._context.Process(target=live, args=(msgspec.json.encode(self.settings),), daemon=True)
        self._process.start()

    def kill(self) -> None:
        """SIGKILL, at whatever it is doing."""
        self._process.kill()
        self._process.join()

    def pause(self) -> None:
        """SIGSTOP."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self._process.pid, signal.SIGCONT)

    def died(self) -> bool:
        """Did it end by itself?"""
        return self._process.exitcode is not None


def live(settings: bytes) -> None:
    """The process: a whole hub but for its HTTP listener."""
    decoded = msgspec.json.decode(settings, type=Settings)
    logging.basicConfig(filename=f"{decoded.data_dir}.log", level=logging.INFO, format="%(asctime)s %(message)s")

    async def work() -> None:
        async with started(decoded) as running:
            await running.hub.run()

    asyncio.run(work())


def beside(operator: Settings, name: str) -> Settings:
    """Another hub of the same fleet: its own directory, with what they share linked into it."""
    home = Path(operator.data_dir)
    directory = home.with_name(name)
    directory.mkdir()
    for shared in SHARED:
        (home / shared).mkdir(exist_ok=True)
        (directory / shared).symlink_to(home / shared)
    return msgspec.structs.replace(operator, data_dir=str(directory), replica=name)


@contextlib.asynccontextmanager
async def external_mosquitto(operator: Settings, hubs: Sequence[str]) -> AsyncIterator[None]:
    """The broker that the operator's settings mean, configured as docs/identity.md tells for several hubs."""
    home = Path(operator.data_dir)
    directory = home.with_name("mosquitto")
    directory.mkdir()
    tls = ensure(home / "keys" / "tls", HOSTS, datetime.datetime.now(datetime.UTC))
    ports = (operator.broker_port, operator.broker_enrol_port)
    seat = Seat("127.0.0.1", *ports, operator.broker_host, tls, directory, operator.topic_root)
    root = operator.topic_root
    rights = "".join(f"user {name}\ntopic readwrite {root}/#\n\n" for name in hubs)
    files = {
        mosquitto_files.CONFIGURATION: mosquitto_files.configuration(seat),
        mosquitto_files.ENROLMENT_ACCESS: mosquitto_files.enrolment_rules(root),
        mosquitto_files.ACCESS: rights + mosquitto_files.access_rules(root, ()),
        mosquitto_files.PASSWORDS: mosquitto_files.password_line((home / "keys" / "enrol.secret").read_text().strip()),
        mosquitto_files.REVOKED: (home / "broker" / mosquitto_files.REVOKED).read_text(),
    }
    for name, content in files.items():
        (directory / name).write_text(content)
        (directory / name).chmod(0o600)
    with (directory / "log").open("wb") as log:
        configuration = str(directory / mosquitto_files.CONFIGURATION)
        process = await asyncio.create_subprocess_exec("mosquitto", "-c", configuration, stdout=log, stderr=log)
    try:
        await until("the broker runs", lambda: b" running\n" in (directory / "log").read_bytes(), PATIENCE_S)
        yield
    finally:
        process.terminate()
        await process.wait()
