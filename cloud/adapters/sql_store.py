"""The SQLite store: one connection, one writer thread, every change durable before it is acknowledged.

WAL with synchronous=FULL, BEGIN IMMEDIATE for writes (a read-then-write upgrade would fail at once), foreign keys on. A
single connection, because SQLite 3.7.0 to 3.51.2 can corrupt a WAL database that several connections reset at once:
within the hub nobody else has the file open, and `fleetloop hub backup` only reads. Other programs may write, and where
the linked SQLite has that defect the hub says so when it starts.
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
from sqlalchemy.pool import StaticPool

from cloud.adapters.sql_schema import migrate
from cloud.errors import StoreError

__all__ = ["SqlStore", "StoreError", "has_wal_reset_defect", "make_engine", "migrate"]

T = TypeVar("T")
log = logging.getLogger(__name__)

MINIMUM_SQLITE = (3, 35, 0)
"""First version with RETURNING and the upsert forms that the services use."""
BUSY_TIMEOUT_MS = 5_000
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
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._path = path
        self._engine: Engine | None = None

    async def open(self) -> None:
        """Open and migrate. Raises StoreError with what to do."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    async def write(self, call: Callable[[Connection], T]) -> T:
        """Run `call` in BEGIN IMMEDIATE ... COMMIT on the store's thread. Raises StoreError."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transaction, call, "IMMEDIATE")

    async def read(self, call: Callable[[Connection], T]) -> T:
        """Run `call` in a read transaction on the store's thread. Raises StoreError."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transaction, call, "DEFERRED")

    def close(self) -> None:
        """Wait for running transactions and close the file."""
        if self._engine is not None:
            self._thread.submit(self._engine.dispose)
        self._thread.shutdown(wait=True)

    def _opened(self) -> Engine:
        if self._engine is None:
            raise StoreError("the store is not open")
        return self._engine

    def _transaction(self, call: Callable[[Connection], T], mode: str) -> T:
        with self._opened().connect() as connection:
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
                "SQLite %s can corrupt a database that several programs use at once: the hub uses one connection; "
                "let no other program open %s while it runs",
                sqlite3.sqlite_version,
                self._path,
            )
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


def _of_the_environment(error: OperationalError) -> bool:
    """A full disk, a file that cannot be read or is locked: nothing that is wrong with the statement."""
    return getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF != sqlite3.SQLITE_ERROR


def make_engine(path: Path) -> Engine:
    """An engine with exactly one connection, configured as this module's rule demands."""
    arguments = {"check_same_thread": False, "isolation_level": None}  # we say BEGIN ourselves
    engine = create_engine(f"sqlite:///{path}", poolclass=StaticPool, connect_args=arguments)
    event.listen(engine, "connect", _configure)
    return engine


def _configure(connection: sqlite3.Connection, record: object) -> None:
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
    ):
        connection.execute(f"PRAGMA {pragma}")
