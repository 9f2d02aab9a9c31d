"""Alembic environment: migrations run on the connection that the store hands in, in one transaction."""

from alembic import context

from cloud.tables import metadata

with context.config.attributes["engine"].connect() as connection:
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    context.run_migrations()
    connection.commit()
