"""A hub's database as its first start leaves it, made once for all tests: migrating takes a fifth of a second.

Tests of migrations, and of starts, let the store make its own.
"""

import tempfile
from pathlib import Path

from cloud.adapters.sql_store import SqlStore

_made: list[bytes] = []


async def lay_out(path: Path) -> None:
    """Put a database with the newest schema and no rows there, unless one is there already."""
    if path.exists():
        return
    if not _made:
        with tempfile.TemporaryDirectory() as directory:
            store = SqlStore(Path(directory) / "hub.sqlite")
            await store.open()
            store.close()
            _made.append((Path(directory) / "hub.sqlite").read_bytes())
    path.write_bytes(_made[0])
