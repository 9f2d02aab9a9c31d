"""Alembic environment: migrations run on the engine that the store hands in, in one transaction, one hub at a time."""

from alembic import context
from sqlalchemy import text

from cloud.tables import metadata

MIGRATION_LOCK = 0x666C656574  # any number that nothing else in the database locks

engine = context.config.attributes["engine"]
with engine.connect() as connection:
    if engine.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": MIGRATION_LOCK})
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    context.run_migrations()
    connection.commit()
