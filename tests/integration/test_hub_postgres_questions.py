"""Questions that only PostgreSQL cannot take: what they ask for is refused, the hub is not at fault."""

from pathlib import Path

import pytest

from bench.postgres_server import postgres_server
from tests.api_world import Api, api
from tests.postgres import NEEDS_POSTGRES

pytestmark = NEEDS_POSTGRES


@pytest.mark.parametrize("name", ["a%00b", "%00"])
def test_a_nul_character_in_a_question_is_the_callers_mistake(tmp_path: Path, name: str) -> None:
    """PostgreSQL keeps no such text, so nothing can be called that."""

    async def scenario(call: Api) -> None:
        for path in (f"/devices/{name}", f"/models/{name}/versions/1", f"/rollouts/{name}"):
            assert "NUL" in await call("viewer", "GET", path, status=422)

    with postgres_server() as server:
        api(tmp_path, scenario, rooted=False, database=server.database())
