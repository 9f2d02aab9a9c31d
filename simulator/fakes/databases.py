"""Hub databases in memory, quickly: a template is loaded, and an engine that is done with is used again.

An engine remembers every statement that it has compiled, which is most of the work of a short run. Nothing else of an
earlier run is left: the database is replaced as a whole; whoever adds listeners or temporary tables takes them away.
"""

import sqlite3
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, Engine

from cloud.adapters.sql_store import make_engine
from cloud.tables import metadata

MOST_IDLE = 4
_idle: list[Engine] = []


def take(content: bytes = b"") -> Engine:
    """An engine on a database of its own: empty, or with what `content_of` gave of another.

    Its connection is new: SQLite crashes where a statement with `json_each` outlives the database it was made for.
    """
    engine = _idle.pop() if _idle else make_engine(Path(":memory:"))
    engine.dispose()
    with engine.connect() as connection:
        _driver(connection).deserialize(content or _template())
    return engine


def content_of(engine: Engine) -> bytes:
    """All that is committed."""
    with engine.connect() as connection:
        return _driver(connection).serialize()


def give_back(engine: Engine) -> None:
    """The database is needed no more. Its connection goes: statements that it had prepared would meet another database
    under their feet, and SQLite does not survive that where they read `json_each`.
    """
    engine.dispose()
    if len(_idle) < MOST_IDLE:
        _idle.append(engine)


@cache
def _template() -> bytes:
    engine = make_engine(Path(":memory:"))
    metadata.create_all(engine)
    found = content_of(engine)
    engine.dispose()
    return found


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver
