"""Lists in pages: whole, in order, whatever comes and goes in between."""

import base64
import json
from pathlib import Path
from typing import Any

from tests.worlds.api_world import Api, api


async def walk(call: Api, path: str, limit: int) -> list[list[Any]]:
    """All pages, by following the Link header."""
    pages, url = [], f"/api/v1{path}?limit={limit}"
    while url:
        answer = await call.http.get(url, headers={"Authorization": "Bearer flk_admin"})
        assert answer.status_code == 200, answer.text
        pages.append(answer.json())
        url = answer.links.get("next", {}).get("url", "")
    return pages


def test_pages_together_are_the_list(tmp_path: Path) -> None:
    """Each row once, in order; the last page names no next one, also when it is full."""

    async def scenario(call: Api) -> None:
        await call("operator", "POST", "/claims", {"device": "p-0001"}, 201)
        names = [f"p-{number:04}" for number in range(1, 8)]
        for name in reversed(names):
            await call.claim(name)
        for limit, sizes in ((3, [3, 3, 1]), (7, [7]), (100, [7])):
            pages = await walk(call, "/devices", limit)
            assert [len(page) for page in pages] == sizes
            assert [one["name"] for page in pages for one in page] == names
        assert len(await walk(call, "/audit", 1)) > 7
        assert [len(page) for page in await walk(call, "/keys", 3)] == [3, 1]

    api(tmp_path, scenario)


def test_rows_of_the_same_moment_are_told_apart(tmp_path: Path) -> None:
    """Keys made at one time come in the order of their ids, none twice."""

    async def scenario(call: Api) -> None:
        found = [one["id"] for page in await walk(call, "/keys", 1) for one in page]
        assert found == sorted(found)
        assert len(found) == 4

    api(tmp_path, scenario)


def test_what_appears_before_the_cursor_shifts_nothing(tmp_path: Path) -> None:
    """The next page goes on where this one ended."""

    async def scenario(call: Api) -> None:
        for name in ("b", "c", "d"):
            await call.claim(name)
        first = await call.http.get("/api/v1/devices?limit=2", headers={"Authorization": "Bearer flk_viewer"})
        await call.claim("a")
        url = first.links["next"]["url"]
        second = await call.http.get(url, headers={"Authorization": "Bearer flk_viewer"})
        assert [one["name"] for one in second.json()] == ["d"]

    api(tmp_path, scenario)


def cursor(value: Any) -> str:
    """A forged one."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


FORGED = ["x", "%%%", cursor({}), cursor([]), cursor([1]), cursor(["a", "b"]), cursor([None]), "é", "A" * 500]


def test_forged_cursors_are_the_callers_mistake(tmp_path: Path) -> None:
    """422 that names the cursor; a number too large for the database as well."""

    async def scenario(call: Api) -> None:
        given = [("/devices", one) for one in FORGED]
        for path, forged in (*given, ("/audit", cursor([2**70])), ("/jobs", cursor([True, "x"]))):
            answer = await call.http.get(
                f"/api/v1{path}", params={"cursor": forged}, headers={"Authorization": "Bearer flk_admin"}
            )
            assert (answer.status_code, "cursor" in answer.text) == (422, True), (forged, answer.text)

    api(tmp_path, scenario)
