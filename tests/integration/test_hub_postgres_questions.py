"""Questions that only PostgreSQL cannot take: what they ask for is refused, the hub is not at fault."""

from pathlib import Path

from bench.postgres_server import postgres_server
from tests.servers.postgres import NEEDS_POSTGRES
from tests.worlds.api_world import Api, api

pytestmark = NEEDS_POSTGRES


def test_a_nul_character_in_a_question_is_the_callers_mistake(tmp_path: Path) -> None:
    """PostgreSQL keeps no such text, so nothing can be called that."""

    async def scenario(call: Api) -> None:
        for path in ("/devices/a%00b", "/models/%00/versions/1", "/rollouts/a%00b"):
            assert "NUL" in await call("viewer", "GET", path, status=422)

    with postgres_server() as server:
        api(tmp_path, scenario, rooted=False, database=server.database())
