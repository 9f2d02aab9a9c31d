"""Keys and audit rows of an older hub stay good on the way up; on the way down goes what the old schema cannot say."""

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text

import cloud.migrations
from cloud.adapters.sql_store import make_engine

REVISION = "0005"


def test_up_and_down_with_data(tmp_path: Path) -> None:
    """An old key gets its id; going back drops revoked, ended and bounded keys, which would be good again otherwise."""
    engine = make_engine(tmp_path / "hub.sqlite")
    config = Config()
    config.set_main_option("script_location", str(Path(cloud.migrations.__file__).parent))
    config.attributes["engine"] = engine
    before = str(ScriptDirectory.from_config(config).get_revision(REVISION).down_revision)

    def run(statement: str, **values: Any) -> list[Any]:
        with engine.connect() as conn:
            found = conn.execute(text(statement), values)
            rows = [tuple(row) for row in found] if found.returns_rows else []
            conn.commit()
        return rows

    command.upgrade(config, before)
    run("INSERT INTO api_keys (sha256, name, role, created_ns) VALUES (:sha256, 'old', 'admin', 1)", sha256="a" * 64)
    run("INSERT INTO audit (at_ns, actor, action, subject, detail) VALUES (1, 'old', 'x', 'y', '{}')")
    command.upgrade(config, REVISION)
    assert run("SELECT id, name, expires_ns FROM api_keys") == [("a" * 16, "old", None)]
    assert run('SELECT actor, request, "before" FROM audit') == [("old", "", None)]
    key = "INSERT INTO api_keys (sha256, id, name, role, created_ns, revoked_ns, expires_ns, reach) "
    for name, ended in (("b", {"revoked": 2}), ("c", {"expires": 2}), ("d", {"reach": "{}"})):
        values = {"revoked": None, "expires": None, "reach": None, **ended}
        run(f"{key} VALUES (:name, :name, :name, 'viewer', 1, :revoked, :expires, :reach)", name=name, **values)
    command.downgrade(config, before)
    assert run("SELECT name FROM api_keys") == [("old",)]
    command.upgrade(config, REVISION)
    assert run("SELECT id FROM api_keys") == [("a" * 16,)]
    engine.dispose()
