"""Schema migrations (Alembic), run when the hub starts."""
