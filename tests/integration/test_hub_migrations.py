"""Every migration, up and down, on both databases, with rows in every table."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Engine,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    func,
    insert,
    inspect,
    select,
)

import cloud.migrations
from bench.postgres_server import PostgresServer, installed, postgres_server
from cloud.adapters import postgres_store, sql_store
from cloud.adapters.sql_schema import EMPTY, migrate, migrate_down
from cloud.tables import metadata
from tests.servers.postgres import NEEDS_POSTGRES

BOOKKEEPING = "alembic_version"
VALUES: list[tuple[type, Any]] = [(Boolean, False), (Integer, 1), (Float, 1.0), (LargeBinary, b"x"), (JSON, {"a": 1})]


MEANT = {("rollouts", "plan"): {"waves": [{"percent": 100.0}]}}
"""Columns whose content a migration reads."""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer | None]:
    """A PostgreSQL server, where it is installed."""
    with postgres_server() if installed() else contextlib.nullcontext() as one:
        yield one


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=NEEDS_POSTGRES)])
def engine(request: pytest.FixtureRequest, tmp_path: Path, server: PostgresServer | None) -> Iterator[Engine]:
    """An empty database."""
    if request.param == "postgresql" and server is not None:
        made = postgres_store.make_engine(postgres_store.parse(server.database()), 10.0)
    else:
        made = sql_store.make_engine(tmp_path / "hub.sqlite")
    yield made
    made.dispose()


def revisions() -> list[str]:
    """All of them, the first one first."""
    config = Config()
    config.set_main_option("script_location", str(Path(next(iter(cloud.migrations.__path__)))))
    return [one.revision for one in reversed(list(ScriptDirectory.from_config(config).walk_revisions()))]


def tables(engine: Engine) -> list[Table]:
    """What the database has now, referenced tables first."""
    found = MetaData()
    found.reflect(engine)
    return [table for table in found.sorted_tables if table.name != BOOKKEEPING]


def count(engine: Engine) -> dict[str, int]:
    """Rows by table."""
    with engine.connect() as connection:
        return {table.name: connection.scalar(select(func.count()).select_from(table)) or 0 for table in tables(engine)}


def fill(engine: Engine) -> None:
    """One row in every table that has none; all names are "x" and all numbers 1, so that they refer to each other."""
    rows = count(engine)
    empty = [table for table in tables(engine) if not rows[table.name]]
    with engine.connect() as connection, connection.begin():
        for table in empty:
            connection.execute(insert(table), {one.name: _value(table.name, one) for one in table.columns})


def _value(table: str, column: Column[Any]) -> Any:
    usual = next((value for kind, value in VALUES if isinstance(column.type, kind)), "x")
    return MEANT.get((table, column.name), usual)


def shape(engine: Engine) -> list[str]:
    """Every column with its type."""
    every = ((table, column) for table in tables(engine) for column in table.columns)
    return sorted(f"{table.name}.{column.name} {column.type} {column.nullable}" for table, column in every)


def test_rows_survive_the_way_up_step_by_step(engine: Engine) -> None:
    """Each revision is reached with rows in all tables of the one before."""
    before: dict[str, int] = {}
    for revision in revisions():
        migrate(engine, revision)
        now = count(engine)
        assert {name: now[name] for name in before if name in now} == {name: 1 for name in before if name in now}
        fill(engine)
        before = count(engine)
        assert set(before.values()) == {1}


def test_the_way_down_leaves_what_older_hubs_know(engine: Engine) -> None:
    """With rows in every table, one step after the other; at the end there is nothing."""
    migrate(engine)
    fill(engine)
    steps = revisions()
    for revision in reversed(steps[:-1]):
        migrate_down(engine, revision)
        left = count(engine)
        assert left["devices"] == left["rollouts"] == left["versions"] == 1
    migrate_down(engine, EMPTY)
    assert set(inspect(engine).get_table_names()) <= {BOOKKEEPING}


def test_down_and_up_again_is_where_it_started(engine: Engine) -> None:
    """A hub that was taken back can be taken forward."""
    migrate(engine)
    before = shape(engine)
    migrate_down(engine, revisions()[0])
    migrate(engine)
    assert shape(engine) == before


def test_the_newest_schema_is_what_the_tables_say(engine: Engine) -> None:
    """No column, index or constraint more or less than `cloud.tables`."""
    migrate(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
