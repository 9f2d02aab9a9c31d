"""The Python client against a real HTTP server: what it sends, and how the hub's refusals come out."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from fleetloop.client import HubClient, HubError
from tests.servers.live_server import serving

app = FastAPI()
seen: list[tuple[str, str, Any]] = []


@app.get("/api/v1/health")
async def health() -> dict[str, str]:
    """Open to all."""
    return {"status": "ok"}


@app.get("/api/v1/devices")
async def devices(request: Request) -> Any:
    """Wants the right key."""
    if request.headers.get("authorization") != "Bearer right":
        problem = {"type": "about:blank", "title": "Unauthorized", "status": 401, "detail": "no such key"}
        return JSONResponse(problem, 401, media_type="application/problem+json")
    return [{"name": "p01"}]


@app.get("/api/v1/overview")
async def overview() -> Response:
    """What a proxy in between might say."""
    return PlainTextResponse("bad gateway", 502)


@app.get("/api/v1/jobs")
async def jobs() -> Response:
    """Something else than the hub."""
    return PlainTextResponse("<html>hello</html>")


@app.get("/api/v1/models")
async def models() -> dict[str, str]:
    """Not a list."""
    return {"name": "watch"}


@app.post("/api/v1/claims/batch")
async def claims(request: Request) -> Response:
    """Two claim files, or what is wrong."""
    body = await request.json()
    seen.append(("claims/batch", request.headers["authorization"], body))
    if body.get("prefix") == "Bad":
        return JSONResponse({"detail": "prefix: not a name"}, 422, media_type="application/problem+json")
    lines = "<html>" if body.get("prefix") == "page" else '{"device": "p-0001"}\n{"device": "p-0002"}\n'
    return PlainTextResponse(lines, 201)


@app.post("/api/v1/{path:path}")
async def take(path: str, request: Request) -> Response:
    """Remember what was posted."""
    body = await request.body()
    seen.append((path, request.headers["authorization"], await request.json() if body else None))
    return Response(status_code=204) if path.endswith("refusal") else JSONResponse({"id": "x"}, 201)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The server's address."""
    with serving(app) as address:
        yield address


@pytest.fixture
def client(url: str) -> Iterator[HubClient]:
    """A client with the right key."""
    with HubClient(url, "right") as opened:
        yield opened


def test_answers_are_the_hubs_json(client: HubClient) -> None:
    """Objects and lists come through as they are."""
    assert client.health() == {"status": "ok"}
    assert client.devices() == [{"name": "p01"}]


def test_refusal_carries_status_and_detail(url: str) -> None:
    """The problem's detail is what a person reads."""
    with HubClient(url, "wrong") as client, pytest.raises(HubError, match="hub 401: no such key") as caught:
        client.devices()
    assert (caught.value.status, caught.value.detail, caught.value.unreachable) == (401, "no such key", False)


def test_refusal_without_a_problem_document_is_still_told(client: HubClient) -> None:
    """A proxy's plain text, a page that is no JSON, JSON of another shape."""
    for call, reason in ((client.overview, "bad gateway"), (client.jobs, "is this the hub"), (client.models, "list")):
        with pytest.raises(HubError, match=reason):
            call()


def test_no_answer_is_told_apart() -> None:
    """Asking again may help, so callers can see the difference."""
    with serving(FastAPI()) as address:
        client = HubClient(address, "right")
        with pytest.raises(HubError) as refused:
            client.health()
    assert (refused.value.status, refused.value.unreachable) == (404, False)
    with pytest.raises(HubError, match="does not answer") as caught:
        client.health()
    assert caught.value.unreachable


@pytest.mark.parametrize(
    ("call", "path", "body"),
    [
        (
            lambda hub: hub.create_claim("p01", labels={"arm": "left"}, federated=True),
            "claims",
            {"device": "p01", "labels": {"arm": "left"}, "federated": True},
        ),
        (lambda hub: hub.revoke_device("p01", "stolen"), "devices/p01/revoke", {"reason": "stolen"}),
        (lambda hub: hub.call_off_clone_alarm("p01"), "devices/p01/clone-alarm/off", None),
        (
            lambda hub: hub.create_job("m", workload="watch", seed=3),
            "jobs",
            {"kind": "train", "model": "m", "workload": "watch", "seed": 3},
        ),
        (lambda hub: hub.create_key("p", "publisher"), "keys", {"name": "p", "role": "publisher"}),
        (
            lambda hub: hub.create_rollout("m", 2, waves=[{"count": 1}], health_window_s=1.5),
            "rollouts",
            {"model": "m", "version": 2, "waves": [{"count": 1}], "health_window_s": 1.5},
        ),
        (lambda hub: hub.command_rollout("r1", "pause"), "rollouts/r1/pause", None),
        (
            lambda hub: hub.create_federated_run("m", version=1, train={"local-epochs": 2}),
            "federated-runs",
            {"model": "m", "version": 1, "train": {"local-epochs": 2}},
        ),
    ],
)
def test_requests_are_what_the_api_takes(client: HubClient, call: Any, path: str, body: Any) -> None:
    """Path, key and body of each change."""
    assert call(client) == {"id": "x"}
    assert seen[-1] == (path, "Bearer right", body)


def test_many_claims_come_one_by_one(client: HubClient) -> None:
    """As they are read; what is refused is refused before the first."""
    found = [claim["device"] for claim in client.create_claims(prefix="p", count=2, labels={"arm": "left"})]
    assert found == ["p-0001", "p-0002"]
    assert seen[-1][2] == {"prefix": "p", "count": 2, "labels": {"arm": "left"}}
    list(client.create_claims(["p01", "p02"]))
    assert seen[-1][2] == {"devices": ["p01", "p02"]}
    for prefix, why in (("Bad", "not a name"), ("page", "is this the hub")):
        with pytest.raises(HubError, match=why):
            list(client.create_claims(prefix=prefix))


def test_empty_answer_is_fine_where_none_is_expected(client: HubClient) -> None:
    """204 has no body."""
    client.refuse("s1", "because")
    assert seen[-1][0] == "signing-requests/s1/refusal"


def test_request_bodies_are_valid_requests_of_the_hub(client: HubClient) -> None:
    """The hub's own request types accept what the client makes, so the two cannot drift apart."""
    from cloud.api.schemas import access, claims, devices, learning, registry, rollouts, trust

    kinds = {
        "claims": claims.ClaimRequest,
        "claims/batch": claims.ClaimsRequest,
        "devices/p01/revoke": devices.RevocationRequest,
        "jobs": registry.JobRequest,
        "keys": access.KeyRequest,
        "trust/roots": trust.RootRequest,
        "rollouts": rollouts.RolloutRequest,
        "federated-runs": learning.FederatedRequest,
        "signing-requests/s1/signature": trust.MetadataRequest,
        "signing-requests/s1/refusal": registry.RefusalRequest,
    }
    seen.clear()
    client.create_claim("p01")
    list(client.create_claims(prefix="p", count=2, replaces=True))
    client.revoke_device("p01", "stolen")
    client.create_job("m", workload="watch")
    client.create_key("p", "viewer")
    client.adopt_root("e30=")
    client.create_rollout("m", 1, waves=[{"percent": 100}], selector={"arm": "left"}, gates=["commit_rate >= 90 %"])
    client.create_federated_run("m", version=1, non_inferiority={"selector": {"arm": "right"}, "margin": 0.1}, seed=1)
    client.sign("s1", {"bin-0": "e30="})
    client.refuse("s1", "because")
    assert {path for path, _, _ in seen} == set(kinds)
    for path, _, body in seen:
        kinds[path].model_validate(body)
