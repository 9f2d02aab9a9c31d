"""Alembic environment: migrations run on the engine that the store hands in, in one transaction, one hub at a time.

SQLite changes a table by making it anew, which breaks the references to it for a moment: they are judged at the end.
"""

from alembic import context
from sqlalchemy import Connection, text

from cloud.tables import metadata

MIGRATION_LOCK = 0x666C656574  # any number that nothing else in the database locks


class BrokenReferencesError(Exception):
    """A migration left rows that refer to nothing."""


def run(connection: Connection) -> None:
    """All steps between the database's revision and the wanted one."""
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    context.run_migrations()


def on_sqlite(connection: Connection) -> None:
    """With references switched off, which has to happen outside of the transaction."""
    connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        run(connection)
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
        if broken is not None:
            raise BrokenReferencesError(f"table {broken[0]} would refer to rows of {broken[2]} that are not there")
        connection.commit()
    finally:
        connection.rollback()
        connection.exec_driver_sql("PRAGMA foreign_keys=ON")


def on_postgresql(connection: Connection) -> None:
    """A hub that comes second waits here."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": MIGRATION_LOCK})
    run(connection)
    connection.commit()


engine = context.config.attributes["engine"]
with engine.connect() as opened:
    (on_sqlite if engine.dialect.name == "sqlite" else on_postgresql)(opened)
