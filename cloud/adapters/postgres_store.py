"""The PostgreSQL store, which several hubs share. To the services it is as if there were one writer, as with SQLite.

Writing transactions are SERIALIZABLE: what PostgreSQL cannot put into an order it refuses, and such a transaction is
run again from the start, which `cloud.ports.Store.write` allows for. One that was refused MAX_DISPUTES times locks the
other writers of all hubs out, so it succeeds. A connection that broke before its COMMIT is replaced and the transaction
run again, for PATIENCE_S. A session that stands idle inside a transaction (its hub was paused) is ended by the server,
with its locks. One thread writes, in order of arrival; a few others read snapshots.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, OperationalError

from cloud.adapters.sql_json import JSON
from cloud.adapters.sql_schema import migrate
from cloud.errors import InvalidError, StoreError

T = TypeVar("T")

READERS = 3
MAX_DISPUTES = 4
PATIENCE_S = 20.0
RECONNECT_EVERY_S = 0.25
CONNECT_TIMEOUT_S = 5
DISPUTES = frozenset({"40001", "40P01"})
"""SQLSTATE: serialization failure, deadlock."""
ONE_OF_MANY = "LOCK TABLE leadership IN ROW SHARE MODE"
ALONE = "LOCK TABLE leadership IN EXCLUSIVE MODE"
"""Does not go together with ROW SHARE. Unlike a SELECT, LOCK TABLE takes no snapshot: what follows sees what the
transactions that it waited for have done."""
SCHEME = "postgresql+psycopg"


class PostgresStore:
    """The `cloud.ports.Store` on a PostgreSQL database; migrates it to the newest schema when it is opened."""

    def __init__(self, url: str, password: str = "", idle_limit_s: float = 10.0) -> None:
        self._url = parse(url, password)
        self._engine = make_engine(self._url, idle_limit_s)
        self._writing = self._engine.execution_options(isolation_level="SERIALIZABLE")
        self._reading = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")

    async def open(self) -> None:
        """Connect and migrate. Raises StoreError with what to do."""
        await asyncio.get_running_loop().run_in_executor(self._writer, self._open)

    async def write(self, call: Callable[[Connection], T]) -> T:
        """Run `call`, again if need be, until it is committed once. Raises StoreError."""
        return await asyncio.get_running_loop().run_in_executor(
            self._writer, self._patiently, lambda: self._in_order(call)
        )

    async def read(self, call: Callable[[Connection], T]) -> T:
        """Run `call` on a snapshot. Raises StoreError."""
        return await asyncio.get_running_loop().run_in_executor(
            self._readers, self._patiently, lambda: self._look(call)
        )

    def close(self) -> None:
        """Wait for running transactions and disconnect."""
        self._readers.shutdown(wait=True)
        self._writer.shutdown(wait=True)
        self._engine.dispose()

    def _open(self) -> None:
        try:
            self._patiently(lambda: migrate(self._engine))
        except Exception as error:
            reason = str(getattr(error, "orig", None) or error).strip()
            raise StoreError(
                f"cannot open the database {self._url.render_as_string()}: {reason}; see that the server runs and that "
                "this role may create tables there"
            ) from error

    def _patiently(self, call: Callable[[], T]) -> T:
        """Again, as long as the server cannot be reached or connections break, until patience ends."""
        give_up = time.monotonic() + PATIENCE_S
        while True:
            try:
                return call()
            except DBAPIError as error:
                if not _lost(error):
                    raise _translated(error) from error
                if time.monotonic() > give_up:
                    raise StoreError(f"the database server is gone: {error.orig}") from error
                time.sleep(RECONNECT_EVERY_S)

    def _in_order(self, call: Callable[[Connection], T]) -> T:
        """Until no other transaction disputes it."""
        for _ in range(MAX_DISPUTES):
            try:
                return self._transaction(call, ONE_OF_MANY)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) not in DISPUTES:
                    raise
        return self._transaction(call, ALONE)

    def _transaction(self, call: Callable[[Connection], T], lock: str) -> T:
        with self._writing.connect() as connection:
            connection.exec_driver_sql(lock)
            result = call(connection)
            self._commit(connection)
            return result

    def _commit(self, connection: Connection) -> None:
        """A connection that breaks here leaves open what became of the transaction: it is not run again."""
        try:
            connection.commit()
        except DBAPIError as error:
            if _lost(error):
                raise StoreError(f"the database server went away during a commit: {error.orig}") from error
            raise

    def _look(self, call: Callable[[Connection], T]) -> T:
        with self._reading.connect() as connection:
            return call(connection)


def parse(url: str, password: str = "") -> URL:
    """The address of a database: `postgresql://user@host:port/name`, with the password from elsewhere if given.

    Raises StoreError, which does not repeat what may hold a secret.
    """
    try:
        made = make_url(url)
    except ArgumentError as error:
        raise StoreError("database_url is no URL: it looks like postgresql://user@host:5432/fleetloop") from error
    if made.get_backend_name() != "postgresql":
        raise StoreError(f"database_url: {made.drivername!r} is no database for hubs; use postgresql, or leave it out")
    return made.set(drivername=SCHEME, password=password or made.password)


def make_engine(url: URL, idle_limit_s: float) -> Engine:
    """Connections for the writer and the readers; the server ends those that idle inside a transaction."""
    arguments = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "application_name": "fleetloop",
        "options": f"-c idle_in_transaction_session_timeout={int(idle_limit_s * 1000)}",
    }
    logging.getLogger("psycopg").setLevel(logging.ERROR)  # it warns of every transaction refused, which is settled here
    pool = {"pool_size": READERS + 1, "max_overflow": 0}
    return create_engine(url, connect_args=arguments, hide_parameters=True, **JSON, **pool)


def _translated(error: DBAPIError) -> Exception:
    """Whose fault is it: the environment's, that of a value (a text with a NUL, a number too large), or our own?"""
    match error:
        case OperationalError():
            return StoreError(f"the database cannot be used: {error.orig}")
        case DataError():
            return InvalidError(f"a value cannot be kept or compared: {error.orig}")
        case _:
            return error


def _lost(error: DBAPIError) -> bool:
    """Has the connection gone, or was there none to be had?"""
    sqlstate = getattr(error.orig, "sqlstate", None)
    return error.connection_invalidated or (isinstance(error, OperationalError) and sqlstate is None)
