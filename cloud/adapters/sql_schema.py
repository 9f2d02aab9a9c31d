"""The schema's way up and down (Alembic, `cloud/migrations`), on either database."""

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine

_one_at_a_time = threading.Lock()
"""Alembic's environment is global to the process."""

NEWEST = "head"
EMPTY = "base"


def migrate(engine: Engine, revision: str = NEWEST) -> None:
    """Bring the schema up to `revision`. Whoever comes second, on PostgreSQL, waits and finds it done."""
    with _one_at_a_time:
        command.upgrade(_configuration(engine), revision)


def migrate_down(engine: Engine, revision: str) -> None:
    """Bring the schema back down to `revision`; what only newer ones hold is lost."""
    with _one_at_a_time:
        command.downgrade(_configuration(engine), revision)


def _configuration(engine: Engine) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent.parent / "migrations"))
    config.attributes["engine"] = engine
    return config
