"""When tests that need PostgreSQL are skipped."""

import pytest

from bench.postgres_server import installed

NEEDS_POSTGRES = pytest.mark.skipif(not installed(), reason="PostgreSQL is not installed (package postgresql)")
