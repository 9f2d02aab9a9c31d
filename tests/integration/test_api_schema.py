"""The API against its own description: whatever schemathesis makes of it is answered as described, never with a 500."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi import checks as openapi_checks

from cloud.api.limits import Limits
from cloud.core.throttle import Rate
from tests.worlds.api_world import app_of
from tests.worlds.hub_world import World, add_key

EXAMPLES = 4
KEY = {"Authorization": "Bearer flk_admin"}
NOT_APPLIED = [openapi_checks.positive_data_acceptance]
"""A request that is well-formed may still make no sense as things stand: two waves, none of a size, are a 422."""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """A hub's app with an enrolled device; nobody is slowed down."""
    world = World(tmp_path_factory.mktemp("schema"))

    async def open_world() -> None:
        await world.__aenter__()
        await world.enrol("p01")
        await add_key(world, "flk_admin", "admin")

    asyncio.run(open_world())
    yield app_of(world, Limits(Rate(1e6, 10**6), Rate(1e6, 10**6)))
    asyncio.run(world.__aexit__())


def test_the_description_is_openapi_3_1(app: FastAPI) -> None:
    """And has a summary and a described error for every operation."""
    document = app.openapi()
    assert document["openapi"].startswith("3.1")
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["description"], (method, path)
            assert "application/problem+json" in operation["responses"]["default"]["content"], (method, path)
            assert "HTTPValidationError" not in str(operation), (method, path)


def test_every_operation_behaves_as_described(app: FastAPI) -> None:
    """Right and wrong requests of every operation but the endless ones."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", app).exclude(path_regex="/events$")
    count = 0
    for operation in schema.get_all_operations():
        strategy = operation.ok().as_strategy() | operation.ok().as_strategy(
            generation_mode=schemathesis.GenerationMode.NEGATIVE
        )

        @given(case=strategy)
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def behaves(case: Any) -> None:
            case.call_and_validate(headers=KEY, excluded_checks=NOT_APPLIED)

        behaves()
        count += 1
    assert count > 30
