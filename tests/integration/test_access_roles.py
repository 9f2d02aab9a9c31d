"""Every route of the API and every role: who gets in, and who is told that he may not."""

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from cloud.api import routes
from cloud.core.identity import Role
from tests.worlds.api_world import ROLES, Api, api

OPEN, VIEW, OPERATE, PUBLISH, ADMINISTER = "open", "view", "operate", "publish", "administer"
MAY = {
    OPEN: {"", *ROLES},
    VIEW: set(ROLES),
    OPERATE: {"operator", "admin"},
    PUBLISH: {"publisher", "admin"},
    ADMINISTER: {"admin"},
}
WHOLE, PARTS = "all of the fleet", "its part"
"""What a key that reaches only a part of the fleet gets of a route: nothing, or its part."""

TABLE: dict[str, tuple[str, str]] = {
    "GET /health": (OPEN, PARTS),
    "GET /me": (VIEW, PARTS),
    "GET /keys": (ADMINISTER, WHOLE),
    "POST /keys": (ADMINISTER, WHOLE),
    "GET /keys/{key}": (ADMINISTER, WHOLE),
    "POST /keys/{key}/revoke": (ADMINISTER, WHOLE),
    "GET /audit": (ADMINISTER, WHOLE),
    "GET /audit/export": (ADMINISTER, WHOLE),
    "GET /events": (VIEW, WHOLE),
    "GET /rollouts/{rollout}/events": (VIEW, PARTS),
    "GET /devices/{name}/events": (VIEW, PARTS),
    "GET /trust": (VIEW, WHOLE),
    "GET /trust/metadata/{name}": (VIEW, WHOLE),
    "POST /trust/metadata": (PUBLISH, WHOLE),
    "POST /trust/roots": (ADMINISTER, WHOLE),
    "POST /claims": (OPERATE, PARTS),
    "POST /claims/batch": (OPERATE, PARTS),
    "GET /overview": (VIEW, WHOLE),
    "GET /devices": (VIEW, PARTS),
    "GET /devices/{name}": (VIEW, PARTS),
    "POST /devices/{name}/revoke": (OPERATE, PARTS),
    "POST /devices/{name}/clone-alarm/off": (OPERATE, PARTS),
    "POST /jobs": (OPERATE, PARTS),
    "GET /devices/{name}/twin": (VIEW, WHOLE),
    "GET /devices/{name}/history": (VIEW, WHOLE),
    "PATCH /devices/{name}": (OPERATE, WHOLE),
    "PATCH /devices/{name}/labels": (OPERATE, WHOLE),
    "POST /devices/{name}/hold": (OPERATE, WHOLE),
    "POST /devices/{name}/release": (OPERATE, WHOLE),
    "PUT /devices/{name}/pins/{slot}": (OPERATE, WHOLE),
    "DELETE /devices/{name}/pins/{slot}": (OPERATE, WHOLE),
    "POST /devices/{name}/decommission": (OPERATE, WHOLE),
    "GET /fleet": (VIEW, WHOLE),
    "POST /fleet/halt": (OPERATE, WHOLE),
    "POST /fleet/resume": (OPERATE, WHOLE),
    "GET /groups": (VIEW, WHOLE),
    "GET /groups/{name}": (VIEW, WHOLE),
    "GET /groups/{name}/devices": (VIEW, WHOLE),
    "PUT /groups/{name}": (OPERATE, WHOLE),
    "DELETE /groups/{name}": (OPERATE, WHOLE),
    "PUT /artefacts/{sha256}": (OPERATE, WHOLE),
    "GET /artefacts": (VIEW, WHOLE),
    "GET /artefacts/{sha256}": (VIEW, WHOLE),
    "GET /artefacts/{sha256}/content": (VIEW, WHOLE),
    "HEAD /artefacts/{sha256}/content": (VIEW, WHOLE),
    "POST /models/{model}/versions": (OPERATE, WHOLE),
    "GET /models/{model}/promotion-rule": (VIEW, WHOLE),
    "PUT /models/{model}/promotion-rule": (OPERATE, WHOLE),
    "GET /models/{model}/versions/{version}/promotion": (VIEW, WHOLE),
    "POST /models/{model}/versions/{version}/promote": (OPERATE, WHOLE),
    "POST /models/{model}/versions/{version}/retire": (OPERATE, WHOLE),
    "GET /models/{model}/versions/{version}/lineage": (VIEW, WHOLE),
    "GET /lineage": (VIEW, WHOLE),
    "GET /jobs": (VIEW, PARTS),
    "GET /jobs/{job}": (VIEW, PARTS),
    "GET /models": (VIEW, PARTS),
    "GET /models/{model}/versions": (VIEW, PARTS),
    "GET /models/{model}/versions/{version}": (VIEW, PARTS),
    "GET /signing-requests": (VIEW, PARTS),
    "GET /signing-requests/{request}": (VIEW, PARTS),
    "POST /signing-requests/{request}/signature": (PUBLISH, PARTS),
    "POST /signing-requests/{request}/refusal": (PUBLISH, PARTS),
    "POST /rollouts": (OPERATE, PARTS),
    "GET /rollouts": (VIEW, PARTS),
    "GET /rollouts/{rollout}": (VIEW, PARTS),
    "GET /rollouts/{rollout}/members": (VIEW, PARTS),
    "POST /rollouts/{rollout}/{command}": (OPERATE, PARTS),
    "POST /federated-runs": (OPERATE, PARTS),
    "GET /federated-runs": (VIEW, PARTS),
    "GET /federated-runs/{run}": (VIEW, PARTS),
    "POST /federated-runs/{run}/stop": (OPERATE, PARTS),
}
"""METHOD path -> who may, and what a bounded key gets. A new route is entered here, by hand: that is the point."""


ENDLESS = "GET /events"
"""Whoever may have it gets an answer that does not end."""


def every_route() -> set[str]:
    """What the API has."""
    app = FastAPI()
    routes.install(app)
    paths = app.openapi()["paths"]
    return {f"{method.upper()} {path.removeprefix(routes.PREFIX)}" for path in paths for method in paths[path]}


def at(path: str) -> str:
    """An address that fits the pattern."""
    return re.sub(r"\{(\w+)\}", lambda found: {"version": "1", "command": "pause"}.get(found[1], "x"), path)


def test_every_route_is_in_the_table() -> None:
    """No route without a decision about who may use it."""
    assert every_route() == set(TABLE)


def test_no_route_hides_from_the_description() -> None:
    """What OpenAPI does not show would be missing above, too."""
    every = [one for noun in routes.NOUNS for one in noun.router.routes if isinstance(one, APIRoute)]
    assert len(every) >= len(TABLE)
    assert [one.path for one in every if not one.include_in_schema] == []


@pytest.mark.parametrize("role", ["", *ROLES])
def test_who_may_use_which_route(tmp_path: Path, role: str) -> None:
    """401 without a key, 403 for the wrong role, and for all others the route itself answers."""

    async def scenario(call: Api) -> None:
        for route, (need, _) in TABLE.items():
            if route == ENDLESS and role in MAY[need]:
                continue
            answer = await raw(call, route, f"flk_{role}" if role else "")
            if role in MAY[need]:
                assert answer.status_code not in (401, 403, 429, 500), (route, answer.text)
            else:
                assert answer.status_code == (403 if role else 401), (route, answer.text)
                assert answer.headers["content-type"] == "application/problem+json"

    api(tmp_path, scenario)


def test_keys_with_a_bounded_reach_get_their_part_or_nothing(tmp_path: Path) -> None:
    """Routes that concern the whole fleet refuse them; none forgets to decide."""

    async def scenario(call: Api) -> None:
        terms = {"name": "berlin", "role": "operator", "labels": {"site": "berlin"}, "models": ["watch"]}
        operator = (await call("admin", "POST", "/keys", terms, 201))["key"]
        publisher = (await call("admin", "POST", "/keys", {**terms, "name": "b", "role": "publisher"}, 201))["key"]
        for route, (need, part) in TABLE.items():
            if need == ADMINISTER:
                continue
            answer = await raw(call, route, publisher if need == PUBLISH else operator)
            refused = answer.status_code == 403 and (route.startswith("HEAD") or "only a part" in answer.text)
            assert refused == (part == WHOLE), (route, answer.text)

    api(tmp_path, scenario)


def test_roles_are_those_of_the_table() -> None:
    """A new role has to be given rights here."""
    assert set(ROLES) == {role.value for role in Role}


async def raw(call: Api, route: str, key: str) -> Any:
    """Call a route with nothing sensible in it."""
    method, path = route.split(" ")
    body = {} if method not in ("GET", "HEAD") else None
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return await call.http.request(method, f"/api/v1{at(path)}", json=body, headers=headers)
