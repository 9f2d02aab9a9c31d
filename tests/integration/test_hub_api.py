"""The HTTP API as a client sees it: who gets in, what is refused and how, and the way of a version through it."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.worlds.api_world import Api, api
from tests.worlds.hub_world import MODEL, ROOT
from wire.codec import decode, encode
from wire.identity import ClaimFile
from wire.release import Release


def as_text(files: Mapping[str, bytes]) -> dict[str, str]:
    """Metadata as the API takes it."""
    return {role: base64.b64encode(data).decode() for role, data in files.items()}


def test_without_a_valid_key_only_health_answers(tmp_path: Path) -> None:
    """401 with what to do, for reading and for writing alike."""

    async def scenario(call: Api) -> None:
        assert (await call("", "GET", "/health"))["broker_connected"] is True
        for method, path in (("GET", "/devices"), ("GET", "/overview"), ("POST", "/rollouts"), ("POST", "/keys")):
            assert "Authorization: Bearer" in await call("", method, path, {}, 401)
        assert "not known" in await call("stranger", "GET", "/devices", None, 401)

    api(tmp_path, scenario)


def test_health_tells_which_job_fails(tmp_path: Path) -> None:
    """Since when and with what, to anybody who asks; not a word of what the error says."""

    async def scenario(call: Api) -> None:
        failures = call.world.failures
        failures.note("pruning", ValueError("flk_secret"), 5)
        failures.note("pruning", KeyError("flk_secret"), 7)
        health = await call("", "GET", "/health")
        assert health["status"] == "degraded"
        assert health["failing"] == [{"job": "pruning", "since_ns": 5, "last_ns": 7, "error": "KeyError"}]
        failures.over("pruning")
        health = await call("", "GET", "/health")
        assert (health["status"], health["failing"]) == ("ok", [])

    api(tmp_path, scenario)


@pytest.mark.parametrize(
    ("role", "path"),
    [
        ("viewer", "/claims"),
        ("viewer", "/rollouts"),
        ("publisher", "/jobs"),
        ("publisher", "/federated-runs"),
        ("operator", "/keys"),
        ("operator", "/trust/roots"),
        ("operator", "/trust/metadata"),
        ("publisher", "/trust/roots"),
        ("operator", "/signing-requests/x/signature"),
    ],
)
def test_a_role_stays_within_its_scope(tmp_path: Path, role: str, path: str) -> None:
    """403 naming role and scope, before the body is looked at."""

    async def scenario(call: Api) -> None:
        assert f"role '{role}'" in await call(role, "POST", path, {"name": "x"}, 403)

    api(tmp_path, scenario)


def test_bad_bodies_are_problems_that_name_the_field(tmp_path: Path) -> None:
    """Unknown fields, wrong names, both or neither of count and percent, oversize."""

    async def scenario(call: Api) -> None:
        refused = {
            "colour": {"device": "p01", "colour": "red"},
            "body.device": {"device": "P 01"},
            "labels": {"device": "p01", "labels": {"arm": 7}},
        }
        for word, body in refused.items():
            assert word in await call("operator", "POST", "/claims", body, 422)
        rollout = {"model": MODEL, "version": 1, "waves": [{}]}
        assert "waves.0" in await call("operator", "POST", "/rollouts", rollout, 422)
        assert "3145728" in await call("operator", "POST", "/claims", {"device": "x" * 3_200_000}, 413)
        assert await call("operator", "GET", "/nothing", None, 404) == "Not Found"

    api(tmp_path, scenario)


def test_numbers_that_no_database_holds_are_the_callers_mistake(tmp_path: Path) -> None:
    """422 that names the field, not a defect of the hub."""

    async def scenario(call: Api) -> None:
        huge = 10**30
        rollout = {"model": MODEL, "version": 1, "waves": [{"percent": 100}]}
        assert "version" in await call("viewer", "GET", f"/models/{MODEL}/versions/{huge}", status=422)
        for path, body, field in (
            ("/rollouts", rollout | {"version": huge}, "version"),
            ("/rollouts", rollout | {"waves": [{"count": huge}]}, "count"),
            ("/federated-runs", {"model": MODEL, "version": huge}, "version"),
        ):
            assert field in await call("operator", "POST", path, body, 422)

    api(tmp_path, scenario)


def test_a_claim_file_is_complete_and_strict(tmp_path: Path) -> None:
    """It parses as the wire contract says; without a root there is none; reserved names are refused."""

    async def scenario(call: Api) -> None:
        assert "fleetloop keys init" in await call("operator", "POST", "/claims", {"device": "p01"}, 409)
        await call.world.store.write(call.world.found)
        document = await call("operator", "POST", "/claims", {"device": "p01"}, 201)
        claim = decode(json.dumps(document).encode(), ClaimFile)
        assert claim.root == call.world.publisher.root
        assert "reserved" in await call("operator", "POST", "/claims", {"device": "hub"}, 422)
        assert (await call("viewer", "GET", "/devices/p01"))["enrolled"] is False

    api(tmp_path, scenario, rooted=False)


def test_a_key_is_shown_once_and_kept_as_a_digest(tmp_path: Path) -> None:
    """It works, and the database does not hold it."""

    async def scenario(call: Api) -> None:
        made = await call("admin", "POST", "/keys", {"name": "ci", "role": "viewer"}, 201)
        answer = await call.http.get("/api/v1/devices", headers={"Authorization": f"Bearer {made['key']}"})
        assert answer.status_code == 200
        content = b"".join(path.read_bytes() for path in tmp_path.glob("hub.sqlite*"))
        assert made["key"].encode() not in content
        assert made["key"][4:].encode() not in content

    api(tmp_path, scenario)


def test_from_training_to_rollout(tmp_path: Path) -> None:
    """Job, version, the publisher's signature, rollout; a second rollout of a held device is a 409 naming the first."""

    async def scenario(call: Api) -> None:
        world = call.world
        await world.enrol("p01")
        job = await call("operator", "POST", "/jobs", {"kind": "train", "model": MODEL, "workload": "watch"}, 201)
        await world.train()
        assert (await call("viewer", "GET", f"/jobs/{job['id']}"))["version"] == 1
        version = await call("viewer", "GET", f"/models/{MODEL}/versions/1")
        assert version["card"]["candidates"][0]["reasons"] == ["bytes: not smaller"]
        order = {"model": MODEL, "version": 1, "waves": [{"count": 1}]}
        assert "not signed" in await call("operator", "POST", "/rollouts", order, 409)

        (request,) = await call("publisher", "GET", "/signing-requests?state=pending")
        release = decode(base64.b64decode(request["payload"]), Release)
        where = f"/signing-requests/{request['id']}/signature"
        assert "belongs into bin-a" in await call("publisher", "POST", where, {"metadata": {"bin-0": "e30="}}, 422)
        for _ in range(2):
            signed = {"metadata": as_text(world.publisher.sign(release))}
            assert (await call("publisher", "POST", where, signed))["state"] == "signed"

        rollout = await call("operator", "POST", "/rollouts", order, 201)
        assert rollout["id"] in await call("operator", "POST", "/rollouts", order, 409)
        await world.tick()
        await world.report("p01")
        await world.tick()
        done = await call("viewer", "GET", f"/rollouts/{rollout['id']}")
        assert (done["state"], done["committed"], done["waves"][0]["gates"][0]["value"]) == ("succeeded", 1, 1.0)
        assert "cannot abort" in await call("operator", "POST", f"/rollouts/{rollout['id']}/abort", None, 409)

    api(tmp_path, scenario)


def test_a_signature_that_finds_no_room_may_come_again(tmp_path: Path) -> None:
    """503, not a defect: nothing was taken, and the same request is taken once the objects can be stored."""

    async def scenario(call: Api) -> None:
        world, objects = call.world, call.world.directory / "objects"
        await call("operator", "POST", "/jobs", {"kind": "train", "model": MODEL, "workload": "watch"}, 201)
        await world.train()
        (request,) = await call("publisher", "GET", "/signing-requests?state=pending")
        release = decode(base64.b64decode(request["payload"]), Release)
        signed = {"metadata": as_text(world.publisher.sign(release))}
        where = f"/signing-requests/{request['id']}/signature"
        objects.rename(objects.with_name("elsewhere"))
        objects.touch()
        assert "ask again" in await call("publisher", "POST", where, signed, 503)
        objects.unlink()
        objects.with_name("elsewhere").rename(objects)
        assert (await call("publisher", "POST", where, signed))["state"] == "signed"

    api(tmp_path, scenario)


def test_a_refused_message_is_visible_at_its_device(tmp_path: Path) -> None:
    """The operator sees why."""

    async def scenario(call: Api) -> None:
        await call.world.enrol("p01")
        await call.world.receive((ROOT.up("p01", "reported"), encode({"seq": 1})))
        device = await call("viewer", "GET", "/devices/p01")
        assert "Reported" in device["last_refusal"]
        assert device["refusal_count"] == 1

    api(tmp_path, scenario)


def test_a_federated_run_needs_eligible_devices_and_a_released_version(tmp_path: Path) -> None:
    """Clear errors first; then the run is there, its job queued, and a second one is refused."""

    async def scenario(call: Api) -> None:
        world = call.world
        order = {"model": MODEL, "version": 1, "strategy": "FedAvgM", "train": {"local-epochs": 1}, "rounds": 2}
        assert "no version 1" in await call("operator", "POST", "/federated-runs", order, 404)
        await call("operator", "POST", "/jobs", {"kind": "train", "model": MODEL, "workload": "watch"}, 201)
        await world.train()
        (request,) = await call("publisher", "GET", "/signing-requests")
        await world.sign(request["id"])
        await world.enrol("p01", federated=False)
        assert "devices in all: 1 (1 not federated)" in await call("operator", "POST", "/federated-runs", order, 422)
        await world.enrol("p02", federated=True)
        run = await call("operator", "POST", "/federated-runs", order, 201)
        assert (run["state"], run["devices"], run["rounds_planned"]) == ("running", ["p02"], 2)
        assert run["id"] in await call("operator", "POST", "/federated-runs", order, 409)

    api(tmp_path, scenario)
