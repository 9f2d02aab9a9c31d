"""If-Match on every change of a resource that has an ETag: what somebody else changed meanwhile is not overwritten."""

import re
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from cloud.api import routes
from tests.scenes.hub_steps import fleet
from tests.worlds.api_world import Api, api
from tests.worlds.hub_world import MODEL

WHY = {"reason": "a test"}
PIN = {"model": MODEL, "version": 1, "reason": "a test"}
UNTAGGED = {
    "/claims", "/claims/batch", "/keys", "/rollouts", "/jobs", "/federated-runs", "/models/{model}/versions",
    "/artefacts/{sha256}", "/trust/metadata", "/trust/roots",
    "/federated-runs/{run}/stop", "/signing-requests/{request}/signature", "/signing-requests/{request}/refusal",
}  # fmt: skip
"""Changes that make something new, or that can be made only once anyway."""
DEVICE, VERSION = "/devices/p01", f"/models/{MODEL}/versions/1"
CHANGES: tuple[tuple[str, str, str, Any], ...] = (
    (DEVICE, "PATCH", "", {"federated": True}),
    (DEVICE, "PATCH", "/labels", {"put": {"hall": "9"}}),
    (DEVICE, "POST", "/hold", WHY),
    (DEVICE, "POST", "/release", None),
    (DEVICE, "PUT", "/pins/main", PIN),
    (DEVICE, "DELETE", "/pins/main", None),
    (DEVICE, "POST", "/revoke", WHY),
    (DEVICE, "POST", "/decommission", WHY),
    ("/groups/g", "PUT", "", {"selector": "hall=9"}),
    ("/groups/g", "DELETE", "", None),
    ("/fleet", "POST", "/halt", WHY),
    ("/fleet", "POST", "/resume", None),
    (f"/models/{MODEL}/promotion-rule", "PUT", "", {"min_devices": 7}),
    (f"{VERSION}/promotion", "POST", "/../promote", {"override": "a test"}),
)
"""A resource, and a change that gives it another tag; each in its turn."""


async def tag(call: Api, path: str) -> str:
    """What the resource has."""
    answer = await call.http.get(f"/api/v1{path}", headers={"Authorization": "Bearer flk_viewer"})
    return str(answer.headers.get("etag", ""))


def test_no_change_of_a_tagged_resource_forgets_the_tag() -> None:
    """A new route takes If-Match, or says above why it need not."""
    app = FastAPI()
    routes.install(app)
    deaf = set()
    for path, operations in app.openapi()["paths"].items():
        for method in operations.keys() & {"post", "put", "patch", "delete"}:
            named = {one["name"].lower() for one in operations[method].get("parameters", [])}
            if "if-match" not in named:
                deaf.add(path.removeprefix(routes.PREFIX))
    assert deaf == UNTAGGED


def test_a_stale_tag_refuses_and_the_present_one_lets_through(tmp_path: Path) -> None:
    """412 changes nothing; the answer to what is carried out leads to the next tag."""

    async def scenario(call: Api) -> None:
        await fleet(call.world, 2)
        await call("operator", "PUT", "/groups/g", {"selector": "hall=3"})
        for resource, method, more, body in CHANGES:
            path = re.sub(r"/[^/]+/\.\.", "", f"/api/v1{resource}{more}")
            present = await tag(call, resource)
            assert present, resource
            for given, refused in (('"stale"', True), (f'"other", {present}', False)):
                headers = {"Authorization": "Bearer flk_operator", "If-Match": given}
                answer = await call.http.request(method, path, json=body, headers=headers)
                assert answer.status_code == 412 if refused else answer.is_success, (path, answer.text)
                assert (await tag(call, resource) == present) is refused, path

    api(tmp_path, scenario)


def test_a_tag_of_what_is_gone_makes_nothing_anew(tmp_path: Path) -> None:
    """A group that somebody removed is not put back by who still sees it."""

    async def scenario(call: Api) -> None:
        headers = {"Authorization": "Bearer flk_operator", "If-Match": "*"}
        answer = await call.http.put("/api/v1/groups/g", json={"selector": "hall=3"}, headers=headers)
        assert answer.status_code == 412
        assert await call("viewer", "GET", "/groups") == []

    api(tmp_path, scenario)
