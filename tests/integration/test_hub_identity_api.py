"""Identity through the API: revocation, replacement, clone alarms, and claims by the hundred."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.worlds.api_world import Api, api
from tests.worlds.hub_world import ROOT
from wire.codec import decode, encode
from wire.identity import Broker, ClaimFile
from wire.messages import Status


async def enrolled(call: Api, name: str = "p01") -> None:
    """A device that the hub knows and hears."""
    await call.world.enrol(name)
    await call.world.online(name)


async def says(call: Api, session: str, boot: int, name: str = "p01") -> None:
    """One of its sessions is there."""
    status = Status(online=True, boot=boot, session=session)
    await call.world.receive((ROOT.up(name, "status"), encode(status)))


async def lines(call: Api, body: Any) -> list[ClaimFile]:
    """Claim files by the hundred."""
    headers = {"Authorization": "Bearer flk_operator"}
    answer = await call.http.post("/api/v1/claims/batch", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [decode(line.encode(), ClaimFile) for line in answer.text.splitlines()]


def test_a_revoked_device_is_no_longer_heard_nor_let_in(tmp_path: Path) -> None:
    """By an operator, with a reason; a new claim brings it back."""

    async def scenario(call: Api) -> None:
        await enrolled(call)
        why = {"reason": "stolen from the van"}
        assert "may not operate" in await call("viewer", "POST", "/devices/p01/revoke", why, 403)
        assert "reason" in await call("operator", "POST", "/devices/p01/revoke", {}, 422)
        assert "p09" in await call("operator", "POST", "/devices/p09/revoke", why, 404)
        view = await call("operator", "POST", "/devices/p01/revoke", why)
        assert (view["enrolled"], view["online"]) == (False, False)
        assert view["revoked_ns"] is not None
        await call.world.outbox.users()
        assert call.world.control.users == {}
        await call.world.online("p01")
        assert (await call("viewer", "GET", "/devices/p01"))["online"] is False
        overview = await call("viewer", "GET", "/overview")
        assert "revoked" in overview["devices"][0]["note"]
        assert any(one["action"] == "device.revoke" for one in overview["events"])
        await enrolled(call)
        view = await call("viewer", "GET", "/devices/p01")
        assert (view["enrolled"], view["online"], view["revoked_ns"]) == (True, True, None)

    api(tmp_path, scenario)


def test_new_hardware_needs_a_claim_that_replaces(tmp_path: Path) -> None:
    """And keeps the labels that the device has, unless others are given."""

    async def scenario(call: Api) -> None:
        first = await call("operator", "POST", "/claims", {"device": "p01", "labels": {"arm": "left"}}, 201)
        assert (await call.world.request("c1", first["token"], "a" * 64)).ok
        plain = await call("operator", "POST", "/claims", {"device": "p01"}, 201)
        assert "replaces" in (await call.world.request("c2", plain["token"], "b" * 64)).reason
        again = await call("operator", "POST", "/claims", {"device": "p01", "replaces": True}, 201)
        assert (await call.world.request("c2", again["token"], "b" * 64)).ok
        assert (await call("viewer", "GET", "/devices/p01"))["labels"] == {"arm": "left"}
        await call.world.outbox.users()
        assert call.world.control.users["p01"].verifier == "b" * 64

    api(tmp_path, scenario)


def test_two_devices_under_one_name_raise_an_alarm_until_it_is_called_off(tmp_path: Path) -> None:
    """It stands at the device and in the overview; called off, it can be raised again."""

    async def scenario(call: Api) -> None:
        await enrolled(call)
        for session in ("a", "b"):
            await says(call, session, 4)
        assert (await call("viewer", "GET", "/devices/p01"))["clone_suspected_ns"] is None
        await says(call, "a", 4)
        assert (await call("viewer", "GET", "/devices/p01"))["clone_suspected_ns"] is not None
        overview = await call("viewer", "GET", "/overview")
        assert "two devices" in overview["devices"][0]["note"]
        assert any(one["action"] == "device.clone_suspected" for one in overview["events"])
        view = await call("operator", "POST", "/devices/p01/clone-alarm/off")
        assert view["clone_suspected_ns"] is None
        assert "no clone alarm" in await call("operator", "POST", "/devices/p01/clone-alarm/off", None, 409)
        for session in ("a", "b", "a"):
            await says(call, session, 4)
        assert (await call("viewer", "GET", "/devices/p01"))["clone_suspected_ns"] is not None

    api(tmp_path, scenario)


def test_many_claims_come_as_lines(tmp_path: Path) -> None:
    """By prefix and number or by name, all with the same labels, each token good for its own device only."""

    async def scenario(call: Api) -> None:
        await call.claim("p01")
        files = await lines(call, {"prefix": "press", "count": 450, "first": 7, "labels": {"hall": "3"}})
        assert [files[0].device, files[-1].device, len(files)] == ["press-0007", "press-0456", 450]
        assert len({file.token for file in files}) == 450
        devices = {one["name"]: one for one in await call("viewer", "GET", "/devices?limit=1000")}
        assert devices["press-0456"]["labels"] == {"hall": "3"}
        reply = await call.world.request("c1", files[3].token)
        assert (reply.ok, reply.username) == (True, "press-0010")
        named = await lines(call, {"devices": ["b", "a"]})
        assert [file.device for file in named] == ["b", "a"]

    api(tmp_path, scenario)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({}, "either"),
        ({"devices": ["a"], "prefix": "b"}, "either"),
        ({"devices": ["a", "a"]}, "twice"),
        ({"devices": ["a", "hub"]}, "reserved"),
        ({"devices": ["a", "B"]}, "body.devices.1: 'B' cannot be a name: lower-case letters, digits"),
        ({"prefix": "x", "count": 10_001}, "10000"),
        ({"devices": []}, "at least 1"),
    ],
)
def test_bad_orders_for_many_claims_change_nothing(tmp_path: Path, body: Any, why: str) -> None:
    """One problem, before the first claim is made."""

    async def scenario(call: Api) -> None:
        await call.claim("p01")
        assert why in await call("operator", "POST", "/claims/batch", body, 422)
        assert [one["name"] for one in await call("viewer", "GET", "/devices")] == ["p01"]

    api(tmp_path, scenario)


def test_many_claims_are_refused_before_the_first_byte(tmp_path: Path) -> None:
    """One device that is gone for good, or lies beyond the key's reach, far behind: a problem, no claims."""

    async def scenario(call: Api) -> None:
        await call.claim("z-gone")
        await call("operator", "POST", "/devices/z-gone/decommission", {"reason": "scrapped"})
        await call("operator", "POST", "/claims", {"device": "z-far", "labels": {"hall": "4"}}, 201)
        limited = await call("admin", "POST", "/keys", {"name": "h3", "role": "operator", "labels": {"hall": "3"}}, 201)
        names = [f"a{number:03}" for number in range(250)]
        for key, last, status in (("flk_operator", "z-gone", 409), (limited["key"], "z-far", 403)):
            body = {"devices": [*names, last], "labels": {"hall": "3"}}
            headers = {"Authorization": f"Bearer {key}"}
            answer = await call.http.post("/api/v1/claims/batch", json=body, headers=headers)
            assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert [one["name"] for one in await call("viewer", "GET", "/devices")] == ["z-far"]
        assert len(await lines(call, {"devices": [*names, "z-gone"], "replaces": True})) == 251

    api(tmp_path, scenario)


def test_a_claim_says_where_to_enrol_and_with_what(tmp_path: Path) -> None:
    """As the broker that this hub uses wants it."""

    async def scenario(call: Api) -> None:
        first = decode(json.dumps(await call.claim("p01")).encode(), ClaimFile)
        assert (first.enrol, first.credential) == (None, "password")
        call.world.control.enrolment = Broker(host="127.0.0.1", port=2)
        call.world.control.credential = "certificate"
        second = decode(json.dumps(await call.claim("p02")).encode(), ClaimFile)
        assert (second.enrol, second.credential) == (Broker(host="127.0.0.1", port=2), "certificate")

    api(tmp_path, scenario)
