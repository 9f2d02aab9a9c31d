"""The SQLite store: one connection writes, a few others read, every change durable before it is acknowledged.

WAL with synchronous=FULL, BEGIN IMMEDIATE for writes (a read-then-write upgrade would fail at once), foreign keys on.
Readers see the last commit and wait for no writer. SQLite 3.7.0 to 3.51.2 can corrupt a WAL database when one
connection commits while another one moves the log into the file (a checkpoint). Here one connection does both, in turn;
the others have the file open read-only and can do neither, and so has `fleetloop hub backup`. Other programs may write,
and where the linked SQLite has that defect the hub says so when it starts.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import QueuePool, StaticPool

from cloud.adapters.sql_json import JSON
from cloud.adapters.sql_schema import migrate
from cloud.errors import StoreError

__all__ = ["SqlStore", "StoreError", "has_wal_reset_defect", "make_engine", "migrate"]

T = TypeVar("T")
log = logging.getLogger(__name__)

MINIMUM_SQLITE = (3, 35, 0)
"""First version with RETURNING and the upsert forms that the services use."""
BUSY_TIMEOUT_MS = 5_000
READERS = 2
"""Connections that read. SQLite leaves the interpreter to others while it works, so two questions go on at once."""
DEFECT_SINCE, DEFECT_MENDED = (3, 7, 0), (3, 51, 3)
DEFECT_BACKPORTS = {(3, 44): 6, (3, 50): 7}
"""Release line -> first patch of it that has the correction, too."""


def has_wal_reset_defect(version: tuple[int, int, int]) -> bool:
    """Can this SQLite corrupt a WAL database that several connections use? (Release notes of 3.51.3.)"""
    if not DEFECT_SINCE <= version < DEFECT_MENDED:
        return False
    mended = DEFECT_BACKPORTS.get(version[:2])
    return mended is None or version[2] < mended


class SqlStore:
    """The `cloud.ports.Store` on one SQLite file; migrates it to the newest schema when it is opened."""

    def __init__(self, path: Path) -> None:
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._path = path
        self._writing: Engine | None = None
        self._reading: Engine | None = None

    async def open(self) -> None:
        """Open and migrate. Raises StoreError with what to do."""
        await asyncio.get_running_loop().run_in_executor(self._writer, self._open)

    async def write(self, call: Callable[[Connection], T]) -> T:
        """Run `call` in BEGIN IMMEDIATE ... COMMIT on the writing connection. Raises StoreError."""
        run = asyncio.get_running_loop().run_in_executor
        return await run(self._writer, lambda: self._transaction(self._writing, call, "IMMEDIATE"))

    async def read(self, call: Callable[[Connection], T]) -> T:
        """Run `call` on a snapshot; it cannot write. Raises StoreError."""
        run = asyncio.get_running_loop().run_in_executor
        return await run(self._readers, lambda: self._transaction(self._reading, call, "DEFERRED"))

    def close(self) -> None:
        """Wait for running transactions and close the file; the writer goes last and leaves no log behind."""
        self._readers.shutdown(wait=True)
        if self._reading is not None:
            self._reading.dispose()
        if self._writing is not None:
            self._writer.submit(self._writing.dispose)
        self._writer.shutdown(wait=True)

    def _transaction(self, engine: Engine | None, call: Callable[[Connection], T], mode: str) -> T:
        if engine is None:
            raise StoreError("the store is not open")
        with engine.connect() as connection:
            try:
                connection.exec_driver_sql(f"BEGIN {mode}")
                result = call(connection)
                connection.commit()
            except BaseException as error:
                connection.rollback()
                if isinstance(error, OperationalError) and _of_the_environment(error):
                    raise StoreError(f"the database {self._path} cannot be used: {error.orig}") from error
                raise
            return result

    def _open(self) -> None:
        if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
            needed = ".".join(map(str, MINIMUM_SQLITE))
            raise StoreError(f"this Python links SQLite {sqlite3.sqlite_version}; at least {needed} is needed")
        if has_wal_reset_defect(sqlite3.sqlite_version_info):
            log.info(
                "SQLite %s can corrupt a database that several programs write to at once: the hub writes by one "
                "connection; let no other program write to %s while it runs",
                sqlite3.sqlite_version,
                self._path,
            )
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._writing = make_engine(self._path)
            migrate(self._writing)
            self._reading = _make_reading_engine(self._path)
        except Exception as error:
            reason = getattr(error, "orig", None) or error
            raise StoreError(
                f"cannot open the database {self._path}: {reason}; see that its directory is writable and has room, "
                "or restore it from a backup"
            ) from error


def _of_the_environment(error: OperationalError) -> bool:
    """A full disk, a file that cannot be read or is locked: nothing that is wrong with the statement."""
    return getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF != sqlite3.SQLITE_ERROR


def make_engine(path: Path) -> Engine:
    """An engine with exactly one connection, which may write, configured as this module's rule demands."""
    arguments = {"check_same_thread": False, "isolation_level": None}  # we say BEGIN ourselves
    engine = create_engine(f"sqlite:///{path}", poolclass=StaticPool, connect_args=arguments, **JSON)
    event.listen(engine, "connect", _configure)
    return engine


def _make_reading_engine(path: Path) -> Engine:
    """An engine with a connection for each reader."""
    address = f"{path.absolute().as_uri()}?mode=ro"

    def connect() -> sqlite3.Connection:
        timeout_s = BUSY_TIMEOUT_MS / 1000
        return sqlite3.connect(address, timeout_s, uri=True, check_same_thread=False, isolation_level=None)

    return create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=READERS, max_overflow=0, **JSON)


def _configure(connection: sqlite3.Connection, record: object) -> None:
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
    ):
        connection.execute(f"PRAGMA {pragma}")
