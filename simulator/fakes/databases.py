"""Empty hub databases in memory, quickly: a template is loaded, and an engine that is done with is used again.

An engine remembers every statement that it has compiled, which is most of the work of a short run. Nothing else of an
earlier run is left: the database is replaced as a whole; whoever adds listeners or temporary tables takes them away.
"""

import sqlite3
from functools import cache
from pathlib import Path

from sqlalchemy import Engine

from cloud.adapters.sql_store import make_engine
from cloud.tables import metadata

MOST_IDLE = 4
_idle: list[Engine] = []


def take() -> Engine:
    """An engine on an empty database of its own.

    Its connection is new: SQLite crashes where a statement with `json_each` outlives the database it was made for.
    """
    engine = _idle.pop() if _idle else make_engine(Path(":memory:"))
    engine.dispose()
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.deserialize(_template())
    return engine


def give_back(engine: Engine) -> None:
    """The database is needed no more."""
    if len(_idle) < MOST_IDLE:
        _idle.append(engine)
    else:
        engine.dispose()


@cache
def _template() -> bytes:
    engine = make_engine(Path(":memory:"))
    metadata.create_all(engine)
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        found = driver.serialize()
    engine.dispose()
    return found
