"""Every error is a problem document with the request's id, whatever went wrong and wherever."""

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI, Request
from sqlalchemy import update
from starlette.types import Message

from cloud.api import problems
from cloud.api.bounds import MAX_BODY_BYTES, MAX_HEADER_BYTES
from cloud.tables import devices
from tests.worlds.api_world import Api, api

ADMIN = {"Authorization": "Bearer flk_admin"}


async def ask(call: Api, method: str, path: str, **more: Any) -> httpx.Response:
    """Call as the administrator."""
    headers = {**ADMIN, **more.pop("headers", {})}
    return await call.http.request(method, f"/api/v1{path}", headers=headers, **more)


JSON = {"Content-Type": "application/json"}
REFUSALS: list[tuple[int, str, str, dict[str, Any]]] = [
    (404, "GET", "/nothing", {}),
    (404, "GET", "/devices/nobody", {}),
    (405, "DELETE", "/devices", {}),
    (409, "POST", "/devices/p01/clone-alarm/off", {}),
    (422, "POST", "/claims", {"content": b"{"}),
    (422, "POST", "/claims", {"content": b"\xff\xfe", "headers": JSON}),
    (400, "POST", "/claims", {"content": b"[" * 50_000, "headers": JSON}),
    (
        422,
        "POST",
        "/federated-runs",
        {"content": b'{"model":"m","version":1,"strategy_args":{"x":"\\ud800"}}', "headers": JSON},
    ),
    (
        422,
        "POST",
        "/federated-runs",
        {"content": b'{"model":"m","version":1,"strategy_args":{"\\ud800":1}}', "headers": JSON},
    ),
    (422, "POST", "/rollouts/x/destroy", {}),
    (422, "GET", "/devices?limit=0", {}),
    (413, "POST", "/claims", {"content": b"x" * (MAX_BODY_BYTES + 1)}),
    (431, "GET", "/devices", {"headers": {"X-Long": "x" * MAX_HEADER_BYTES}}),
]


def test_refusals_are_problem_documents(tmp_path: Path) -> None:
    """Media type, status, detail and the same id as in the header."""

    async def scenario(call: Api) -> None:
        await call.world.enrol("p01")
        for status, method, path, more in REFUSALS:
            answer = await ask(call, method, path, **more)
            assert answer.status_code == status, (path, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            document = answer.json()
            assert (document["status"], document["request_id"]) == (status, answer.headers["x-request-id"])
            assert document["detail"]
            assert answer.headers["x-content-type-options"] == "nosniff"

    api(tmp_path, scenario)


def test_405_says_what_is_allowed(tmp_path: Path) -> None:
    """RFC 9110 demands it."""

    async def scenario(call: Api) -> None:
        assert (await ask(call, "DELETE", "/keys")).headers["allow"]

    api(tmp_path, scenario)


def test_a_defect_is_a_problem_that_tells_nothing_but_its_id(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """500; what went wrong is in the log, under the same id."""

    async def scenario(call: Api) -> None:
        await call.world.enrol("p01")
        broken = update(devices).values(reported=b"{ secret of the hub")
        await call.world.store.write(lambda conn: conn.execute(broken))
        answer = await ask(call, "GET", "/devices/p01", headers={"X-Request-Id": "look-for-this"})
        assert (answer.status_code, answer.json()["request_id"]) == (500, "look-for-this")
        assert answer.headers["x-request-id"] == "look-for-this"
        assert "malformed" not in answer.text
        assert "look-for-this" in caplog.text

    api(tmp_path, scenario)


def test_a_body_that_breaks_off_is_no_defect(caplog: pytest.LogCaptureFixture) -> None:
    """Cables are pulled every day: that is not worth a line in the log."""
    app, sent = FastAPI(), list[Message]()
    problems.install(app)

    @app.put("/file")
    async def take(request: Request) -> None:
        async for _ in request.stream():
            pass

    body: list[Message] = [
        {"type": "http.request", "body": b"half", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return body.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "PUT", "path": "/file", "headers": [], "query_string": b""}
    asyncio.run(app(scope, receive, send))
    assert (sent[0]["status"], caplog.records) == (400, [])


def test_a_request_id_is_taken_over_or_made(tmp_path: Path) -> None:
    """Only one that can do no harm in a log line or a header."""

    async def scenario(call: Api) -> None:
        given = await ask(call, "GET", "/me", headers={"X-Request-Id": "ci-7"})
        assert given.headers["x-request-id"] == "ci-7"
        for odd in ("a b", "x" * 65, "<script>", ""):
            assert len((await ask(call, "GET", "/me", headers={"X-Request-Id": odd})).headers["x-request-id"]) == 32

    api(tmp_path, scenario)


def test_a_body_without_a_length_is_counted_on_its_way(tmp_path: Path) -> None:
    """Chunked: refused as soon as it is too long."""

    async def scenario(call: Api) -> None:
        sent = 0

        async def endless() -> Any:
            nonlocal sent
            while True:
                sent += 65_536
                yield b" " * 65_536

        answer = await ask(call, "POST", "/claims", content=endless(), headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
        assert sent < 2 * MAX_BODY_BYTES

    api(tmp_path, scenario)


def test_ten_thousand_ranges_get_nowhere(tmp_path: Path) -> None:
    """Neither at a route that serves a file nor anywhere else."""

    async def scenario(call: Api) -> None:
        ranges = "bytes=" + ",".join(f"{start}-{start + 1}" for start in range(10_000))
        for path in ("/trust/metadata/1.root.json", "/devices", "/health"):
            assert (await ask(call, "GET", path, headers={"Range": ranges})).status_code == 431
        few = await ask(call, "GET", "/trust/metadata/1.root.json", headers={"Range": "bytes=0-1,3-4"})
        assert few.status_code == 200

    api(tmp_path, scenario)


NO_FILES = ("..%2f..%2fadmin.key", "%2e%2e%2fadmin.key", "root.json%00", "%2fetc%2fpasswd", "admin.key", "hub.sqlite")


def test_names_of_files_reach_no_file(tmp_path: Path) -> None:
    """What is served comes from the database, by its exact name."""

    async def scenario(call: Api) -> None:
        for name in NO_FILES:
            for place in ("/trust/metadata/", "/devices/", "/jobs/", "/rollouts/", "/models/"):
                answer = await ask(call, "GET", f"{place}{name}")
                assert answer.status_code in (404, 405), (place, name, answer.text)

    api(tmp_path, scenario)


WORDS = ("' OR '1'='1", "x'; DROP TABLE devices; --", '"', "%", "_", "\\", "$.a", "\u0000")


def test_sql_in_names_is_only_a_name(tmp_path: Path) -> None:
    """In paths, filters, labels and reaches: nothing more is found, nothing is lost, nothing breaks."""

    async def scenario(call: Api) -> None:
        await call.world.enrol("p01", arm="left")
        for number, word in enumerate(WORDS):
            for place in ("/devices/", "/jobs/", "/rollouts/", "/federated-runs/", "/keys/"):
                answer = await ask(call, "GET", place + quote(word, safe=""))
                assert answer.status_code == 404, (place, word, answer.text)
            for name in ("actor", "action", "subject", "request"):
                assert (await ask(call, "GET", "/audit", params={name: word})).json() == [], (name, word)
            assert (await ask(call, "GET", "/audit", params={"action": f"{word}."})).json() == []
            claim = await ask(call, "POST", "/claims", json={"device": "p02", "labels": {word: word}})
            assert claim.status_code == 201
            bounded = {"name": f"bounded-{number}", "role": "viewer", "labels": {"arm": word}}
            key = (await ask(call, "POST", "/keys", json=bounded)).json()["key"]
            answer = await call.http.get("/api/v1/devices", headers={"Authorization": f"Bearer {key}"})
            assert answer.json() == [], word
        assert [one["name"] for one in await call("viewer", "GET", "/devices")] == ["p01", "p02"]

    api(tmp_path, scenario)
