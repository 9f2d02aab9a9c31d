"""The audit trail: every change with who, what, before, after and the request that caused it; nobody else reads it."""

import json
from pathlib import Path
from typing import Any

from tests.worlds.api_world import Api, api
from tests.worlds.hub_world import MODEL


async def trail(call: Api, **filters: Any) -> list[dict[str, Any]]:
    """Changes."""
    answer = await call.http.get("/api/v1/audit", params=filters, headers={"Authorization": "Bearer flk_admin"})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


def test_a_change_is_recorded_with_all_that_is_to_be_known(tmp_path: Path) -> None:
    """Actor, action, subject, request id, before and after; reading leaves no trace."""

    async def scenario(call: Api) -> None:
        await call.claim("p01")
        headers = {"Authorization": "Bearer flk_operator", "X-Request-Id": "move-7"}
        body = {"device": "p01", "labels": {"arm": "left"}, "federated": True}
        await call.http.post("/api/v1/claims", json=body, headers=headers)
        count = len(await trail(call))
        (change,) = await trail(call, request="move-7")
        assert (change["actor"], change["action"], change["subject"]) == ("operator", "device.claim", "p01")
        assert change["before"] == {"labels": {}, "federated": False}
        assert change["after"] == {"labels": {"arm": "left"}, "federated": True}
        assert len(await trail(call)) == count

    api(tmp_path, scenario)


def test_every_kind_of_change_through_the_api_is_recorded(tmp_path: Path) -> None:
    """One request of each kind; each left at least one row under its own id."""

    async def scenario(call: Api) -> None:
        world = call.world
        asked: list[str] = []

        async def change(role: str, path: str, body: Any = None, method: str = "POST") -> Any:
            asked.append(f"request-{len(asked)}")
            headers = {"Authorization": f"Bearer flk_{role}", "X-Request-Id": asked[-1]}
            answer = await call.http.request(method, f"/api/v1{path}", json=body, headers=headers)
            assert answer.status_code < 300, answer.text
            return answer

        key = (await change("admin", "/keys", {"name": "ci", "role": "viewer"})).json()
        await change("admin", f"/keys/{key['id']}/revoke")
        await change("operator", "/claims", {"device": "p09"})
        await change("operator", "/claims/batch", {"prefix": "q", "count": 2})
        await world.enrol("p01", federated=True)
        await world.enrol("p02", federated=True)
        await change("operator", "/jobs", {"kind": "train", "model": MODEL, "workload": "watch"})
        await world.train()
        (request,) = await call("publisher", "GET", "/signing-requests")
        await world.sign(request["id"])
        order = {"model": MODEL, "version": 1, "waves": [{"count": 1}]}
        rollout = (await change("operator", "/rollouts", order)).json()["id"]
        for command in ("pause", "resume", "abort"):
            await change("operator", f"/rollouts/{rollout}/{command}")
        await change("operator", "/federated-runs", {"model": MODEL, "version": 1})
        why = {"reason": "lost"}
        for path, body, method in (
            ("/devices/p02", {"federated": False}, "PATCH"),
            ("/devices/p02/labels", {"put": {"hall": "3"}}, "PATCH"),
            ("/devices/p02/hold", why, "POST"),
            ("/devices/p02/release", None, "POST"),
            ("/devices/p02/pins/main", {"model": MODEL, "version": 1, **why}, "PUT"),
            ("/devices/p02/pins/main", None, "DELETE"),
            ("/groups/g", {"selector": "hall=3"}, "PUT"),
            ("/groups/g", None, "DELETE"),
            ("/fleet/halt", why, "POST"),
            ("/fleet/resume", None, "POST"),
            (f"/models/{MODEL}/promotion-rule", {"min_devices": 2}, "PUT"),
            (f"/models/{MODEL}/versions/1/promote", {"override": "now"}, "POST"),
            ("/devices/p02/revoke", why, "POST"),
            ("/devices/p02/decommission", why, "POST"),
        ):
            await change("operator", path, body, method)
        for one in asked:
            rows = await trail(call, request=one)
            assert rows, one
            assert {row["actor"] for row in rows} <= {"admin", "operator"}
        (labelled,) = await trail(call, action="device.label")
        assert (labelled["before"], labelled["after"]) == ({"labels": {}}, {"labels": {"hall": "3"}})
        (grouped,) = await trail(call, action="group.put")
        assert (grouped["before"], grouped["after"]) == (None, {"selector": "hall=3", "description": ""})
        (paused,) = await trail(call, action="rollout.pause")
        assert (paused["before"], paused["after"]) == ({"state": "running"}, {"state": "paused"})

    api(tmp_path, scenario)


def test_the_trail_can_be_searched_and_taken_away(tmp_path: Path) -> None:
    """By actor, noun, subject and time; the export has every row once, as JSON lines."""

    async def scenario(call: Api) -> None:
        for name in ("p01", "p02"):
            await call.claim(name)
            call.world.clock.ns += 1_000
        assert [row["subject"] for row in await trail(call, action="device.", actor="operator")] == ["p01", "p02"]
        assert [row["subject"] for row in await trail(call, subject="p02")] == ["p02"]
        moment = (await trail(call, subject="p02"))[0]["at_ns"]
        assert [row["subject"] for row in await trail(call, since_ns=moment)] == ["p02"]
        assert "p02" not in [row["subject"] for row in await trail(call, until_ns=moment)]
        assert await trail(call, action="device") == []
        answer = await call.http.get("/api/v1/audit/export", headers={"Authorization": "Bearer flk_admin"})
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert [json.loads(line) for line in answer.text.splitlines()] == await trail(call, limit=1000)

    api(tmp_path, scenario)
