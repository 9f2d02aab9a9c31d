"""INSERT ... ON CONFLICT for both databases, from one place: SQLAlchemy's construct for PostgreSQL, which its compiler
for SQLite takes as it is (the other way round it does not).
"""

from sqlalchemy.dialects.postgresql import insert as upsert

__all__ = ["upsert"]
