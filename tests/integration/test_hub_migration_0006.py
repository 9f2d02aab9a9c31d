"""The migration of registry and fleet goes up and down over a database with rows in it, and keeps them."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, inspect, text

import cloud.migrations
from cloud.adapters.sql_store import make_engine


def migrated(engine: Engine, revision: str, *, down: bool = False) -> None:
    """Bring the schema to a revision."""
    config = Config()
    config.set_main_option("script_location", str(Path(cloud.migrations.__file__).parent))
    config.attributes["engine"] = engine
    (command.downgrade if down else command.upgrade)(config, revision)


def test_rows_survive_the_way_up_and_down(tmp_path: Path) -> None:
    """Devices, their claims that refer to them, models and versions."""
    engine = make_engine(tmp_path / "hub.sqlite")
    migrated(engine, "0003")
    with engine.begin() as conn:
        conn.execute(
            text(
                "INSERT INTO devices (name, labels, federated, claimed_ns, online, boot, reported_seq,"
                " reported_sequence, telemetry_seq, last_refusal, refusal_count)"
                " VALUES ('p01', '{}', 0, 1, 0, 0, 0, 0, 0, '', 0)"
            )
        )
        conn.execute(text("INSERT INTO claims (token_sha256, device, expires_ns, replaces) VALUES ('t', 'p01', 1, 0)"))
        conn.execute(
            text(
                "INSERT INTO models (name, workload, last_version, last_counter, created_ns) VALUES ('m', 'w', 0, 0, 1)"
            )
        )
    for _ in range(2):
        migrated(engine, "0006")
        with engine.begin() as conn:
            assert conn.execute(text("SELECT agent, speaks, held_ns FROM devices")).one() == ("", 0, None)
            conn.execute(text("UPDATE devices SET held_ns = 1, held_reason = 'x'"))
            conn.execute(text("INSERT INTO pins VALUES ('p01', 'main', 'm', 1, 'x', 'y', 1)"))
        migrated(engine, "0003", down=True)
        assert "pins" not in inspect(engine).get_table_names()
        assert "held_ns" not in {column["name"] for column in inspect(engine).get_columns("devices")}
        with engine.begin() as conn:
            assert conn.execute(text("SELECT d.name, c.token_sha256 FROM devices d, claims c")).one() == ("p01", "t")
            assert conn.execute(text("SELECT name FROM models")).scalar_one() == "m"
