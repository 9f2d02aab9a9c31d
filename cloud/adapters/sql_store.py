"""The SQLite store: one connection, one writer thread, every change durable before it is acknowledged.

WAL with synchronous=FULL, BEGIN IMMEDIATE for writes (a read-then-write upgrade would fail at once), foreign keys on. A
single connection, because SQLite 3.7.0 to 3.51.2 can corrupt a WAL database that several connections reset at once.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import StaticPool

T = TypeVar("T")

MINIMUM_SQLITE = (3, 35, 0)
"""First version with RETURNING and the upsert forms that the services use."""
BUSY_TIMEOUT_MS = 5_000


class StoreError(Exception):
    """The database cannot be opened."""


class SqlStore:
    """The `cloud.ports.Store` on one SQLite file; migrates it to the newest schema when it is opened."""

    def __init__(self, path: Path) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._path = path
        self._engine: Engine | None = None

    async def open(self) -> None:
        """Open and migrate. Raises StoreError with what to do."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    async def write(self, call: Callable[[Connection], T]) -> T:
        """Run `call` in BEGIN IMMEDIATE ... COMMIT on the store's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transaction, call, "IMMEDIATE")

    async def read(self, call: Callable[[Connection], T]) -> T:
        """Run `call` in a read transaction on the store's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transaction, call, "DEFERRED")

    def close(self) -> None:
        """Wait for running transactions and close the file."""
        if self._engine is not None:
            self._thread.submit(self._engine.dispose)
        self._thread.shutdown(wait=True)

    def _transaction(self, call: Callable[[Connection], T], mode: str) -> T:
        if self._engine is None:
            raise StoreError("the store is not open")
        with self._engine.connect() as connection:
            connection.exec_driver_sql(f"BEGIN {mode}")
            try:
                result = call(connection)
            except BaseException:
                connection.rollback()
                raise
            connection.commit()
            return result

    def _open(self) -> None:
        if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
            needed = ".".join(map(str, MINIMUM_SQLITE))
            raise StoreError(f"this Python links SQLite {sqlite3.sqlite_version}; at least {needed} is needed")
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._engine = make_engine(self._path)
            migrate(self._engine)
        except Exception as error:
            reason = getattr(error, "orig", None) or error
            raise StoreError(
                f"cannot open the database {self._path}: {reason}; see that its directory is writable and has room, "
                "or restore it from a backup"
            ) from error


def make_engine(path: Path) -> Engine:
    """An engine with exactly one connection, configured as this module's rule demands."""
    arguments = {"check_same_thread": False, "isolation_level": None}  # we say BEGIN ourselves
    engine = create_engine(f"sqlite:///{path}", poolclass=StaticPool, connect_args=arguments)
    event.listen(engine, "connect", _configure)
    return engine


def migrate(engine: Engine) -> None:
    """Bring the schema up to date (Alembic, `cloud/migrations`)."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent.parent / "migrations"))
    config.attributes["engine"] = engine
    command.upgrade(config, "head")


def _configure(connection: sqlite3.Connection, record: object) -> None:
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
    ):
        connection.execute(f"PRAGMA {pragma}")
