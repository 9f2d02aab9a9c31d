"""Changes that hold only for what was seen (If-Match), and requests carried out only once (Idempotency-Key)."""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
from sqlalchemy import Connection

from cloud.ports import Store
from cloud.service.idempotency import LIFE_NS
from cloud.service.outbox import Outbox
from tests.samples.foreign_version import DIGESTS, order, upload
from tests.samples.model_files import onnx_model
from tests.worlds.api_world import Api, api, app_of
from tests.worlds.hub_world import MODEL, ROOT, World, add_key

T = TypeVar("T")

FILE = onnx_model()
ORDER = {"kind": "train", "model": MODEL, "workload": "watch"}


async def send(call: Api, path: str, body: Any = None, role: str = "operator", **headers: str) -> httpx.Response:
    """POST with these headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await call.http.post(f"/api/v1{path}", json=body, headers={"Authorization": f"Bearer flk_{role}", **named})


async def rollout(call: Api) -> str:
    """A running rollout."""
    await call.world.enrol("p01")
    await call("operator", "POST", "/jobs", ORDER, 201)
    await call.world.train()
    (request,) = await call("publisher", "GET", "/signing-requests")
    await call.world.sign(request["id"])
    made = await call("operator", "POST", "/rollouts", {"model": MODEL, "version": 1, "waves": [{"count": 1}]}, 201)
    return str(made["id"])


def test_a_change_of_something_that_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    """412 with the present tag; the right tag, any of several, or '*' let it through."""

    async def scenario(call: Api) -> None:
        path = f"/rollouts/{await rollout(call)}"
        seen = (await call.http.get(f"/api/v1{path}", headers={"Authorization": "Bearer flk_viewer"})).headers["etag"]
        paused = await send(call, f"{path}/pause", If_Match=f'"other", {seen}')
        assert (paused.status_code, paused.headers["etag"] != seen) == (200, True)
        late = await send(call, f"{path}/abort", If_Match=seen)
        assert (late.status_code, paused.headers["etag"].strip('"') in late.text) == (412, True)
        assert (await call("viewer", "GET", path))["state"] == "paused"
        assert (await send(call, f"{path}/resume", If_Match=paused.headers["etag"])).status_code == 200
        assert (await send(call, f"{path}/abort", If_Match="*")).status_code == 200

    api(tmp_path, scenario)


def test_what_a_device_says_leaves_its_tag_alone_and_what_an_operator_says_does_not(tmp_path: Path) -> None:
    """So a decision about a device does not race with its heartbeats."""

    async def scenario(call: Api) -> None:
        await call.world.enrol("p01")

        async def tag() -> str:
            answer = await call.http.get("/api/v1/devices/p01", headers={"Authorization": "Bearer flk_viewer"})
            return str(answer.headers["etag"])

        before = await tag()
        await call.world.online("p01")
        assert await tag() == before
        await call("operator", "POST", "/claims", {"device": "p01", "labels": {"arm": "left"}}, 201)
        assert await tag() != before
        refused = await send(call, "/devices/p01/revoke", {"reason": "lost"}, If_Match=before)
        assert refused.status_code == 412
        assert (await call("viewer", "GET", "/devices/p01"))["enrolled"] is True

    api(tmp_path, scenario)


def test_a_repeated_request_is_answered_as_before_and_changes_nothing(tmp_path: Path) -> None:
    """One job, the same bytes and status; the repetition says that it is one."""

    async def scenario(call: Api) -> None:
        first = await send(call, "/jobs", ORDER, Idempotency_Key="k1")
        again = await send(call, "/jobs", ORDER, Idempotency_Key="k1")
        assert (first.status_code, again.status_code, again.content) == (201, 201, first.content)
        assert ("idempotency-replayed" in first.headers, again.headers["idempotency-replayed"]) == (False, "true")
        assert len(await call("viewer", "GET", "/jobs")) == 1
        other = await send(call, "/jobs", ORDER, role="admin", Idempotency_Key="k1")
        assert other.json()["id"] != first.json()["id"]

    api(tmp_path, scenario)


def test_an_idempotency_key_belongs_to_one_request(tmp_path: Path) -> None:
    """422 for another body, and for a key that cannot be one."""

    async def scenario(call: Api) -> None:
        await send(call, "/jobs", ORDER, Idempotency_Key="k1")
        assert (await send(call, "/jobs", {**ORDER, "seed": 1}, Idempotency_Key="k1")).status_code == 422
        assert (await send(call, "/federated-runs", ORDER, Idempotency_Key="k1")).status_code == 422
        for odd in ("", "a b", "x" * 201):
            assert (await send(call, "/jobs", ORDER, Idempotency_Key=odd)).status_code == 422
        assert len(await call("viewer", "GET", "/jobs")) == 1

    api(tmp_path, scenario)


def test_a_refused_request_may_be_made_again(tmp_path: Path) -> None:
    """Nothing was changed, so nothing is remembered."""

    async def scenario(call: Api) -> None:
        assert (await send(call, "/devices/p01/revoke", {"reason": "x"}, Idempotency_Key="k1")).status_code == 404
        await call.world.enrol("p01")
        assert (await send(call, "/devices/p01/revoke", {"reason": "x"}, Idempotency_Key="k1")).status_code == 200

    api(tmp_path, scenario)


def test_a_key_is_forgotten_after_a_day(tmp_path: Path) -> None:
    """Then it makes a new request."""

    async def scenario(call: Api) -> None:
        first = await send(call, "/jobs", ORDER, Idempotency_Key="k1")
        call.world.clock.ns += LIFE_NS
        assert (await send(call, "/jobs", ORDER, Idempotency_Key="k1")).json()["id"] != first.json()["id"]

    api(tmp_path, scenario)


def test_two_at_once_are_carried_out_once(tmp_path: Path) -> None:
    """Whoever comes second is told to ask again, or gets the first one's answer."""

    async def scenario(call: Api) -> None:
        answers = await asyncio.gather(*(send(call, "/jobs", ORDER, Idempotency_Key="k1") for _ in range(8)))
        assert {answer.status_code for answer in answers} <= {201, 409}
        assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
        assert len(await call("viewer", "GET", "/jobs")) == 1

    api(tmp_path, scenario)


def test_an_answer_with_a_secret_is_not_kept(tmp_path: Path) -> None:
    """The repetition changes nothing and says so; the secret is not in the database."""

    async def scenario(call: Api) -> None:
        for path, body in (("/keys", {"name": "ci", "role": "viewer"}), ("/claims", {"device": "p01"})):
            first = await send(call, path, body, role="admin", Idempotency_Key=path)
            again = await send(call, path, body, role="admin", Idempotency_Key=path)
            assert (first.status_code, again.status_code, "only once" in again.text) == (201, 409, True)
            secret = first.json().get("key") or first.json()["token"]
            assert secret.encode() not in b"".join(file.read_bytes() for file in tmp_path.glob("hub.sqlite*"))

    api(tmp_path, scenario)


def test_an_answer_that_was_lost_is_said_to_be_lost(tmp_path: Path) -> None:
    """The hub died between the change and the answer: the repetition changes nothing."""

    async def scenario(call: Api) -> None:
        from sqlalchemy import update

        from cloud.tables import idempotency

        await send(call, "/jobs", ORDER, Idempotency_Key="k1")
        await call.world.store.write(lambda conn: conn.execute(update(idempotency).values(status=None)))
        again = await send(call, "/jobs", ORDER, Idempotency_Key="k1")
        assert (again.status_code, "was carried out" in again.text) == (409, True)
        assert len(await call("viewer", "GET", "/jobs")) == 1

    api(tmp_path, scenario)


def test_an_import_is_made_once_and_leaves_its_request_in_the_audit_trail(tmp_path: Path) -> None:
    """As every change: the repetition gets the same version; a refused one leaves no trace of itself."""

    async def scenario(call: Api) -> None:
        await upload(call)
        path = "/models/foreign/versions"
        refused = await send(call, path, order(golden=DIGESTS["parent"]), Idempotency_Key="k0")
        assert refused.status_code == 422
        assert await call("viewer", "GET", "/models") == []
        first = await send(call, path, order(), Idempotency_Key="k1", X_Request_Id="import-1")
        again = await send(call, path, order(), Idempotency_Key="k1")
        assert (first.status_code, again.status_code, again.content) == (201, 201, first.content)
        assert again.headers["idempotency-replayed"] == "true"
        (change,) = await call("admin", "GET", "/audit?action=version.import")
        assert change["request"] == "import-1"

    api(tmp_path, scenario)


def test_an_upload_leaves_its_request_in_the_audit_trail(tmp_path: Path) -> None:
    """Taken or refused."""

    async def scenario(call: Api) -> None:
        headers = {"Authorization": "Bearer flk_operator", "X-Request-Id": "upload-1"}
        for data, status in ((FILE, 201), (b"no model at all", 422)):
            path = f"/api/v1/artefacts/{hashlib.sha256(data).hexdigest()}"
            assert (await call.http.put(path, content=data, headers=headers)).status_code == status
        for action in ("artefact.upload", "artefact.refuse"):
            (change,) = await call("admin", "GET", f"/audit?action={action}")
            assert change["request"] == "upload-1"

    api(tmp_path, scenario)


class TwiceStore:
    """A store that runs each change a second time, as a database does whose transaction was refused at its end."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.read = store.read

    async def write(self, call: Callable[[Connection], T]) -> T:
        """Of the first run nothing stays."""

        def twice(conn: Connection) -> T:
            first = conn.begin_nested()
            call(conn)
            first.rollback()
            return call(conn)

        return await self._store.write(twice)


def test_a_transaction_that_had_to_be_run_again_still_leaves_its_key(tmp_path: Path) -> None:
    """What the first run noted went with it; the second one notes it again, so the repetition finds it."""

    async def scenario() -> None:
        async with World(tmp_path) as world:
            await add_key(world, "flk_operator", "operator")
            await add_key(world, "flk_viewer", "viewer")
            world.outbox = Outbox(TwiceStore(world.store), world.link, world.control, ROOT, world.clock)
            transport = httpx.ASGITransport(app=app_of(world), raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://hub") as http:
                call = Api(world, http)
                first = await send(call, "/jobs", ORDER, Idempotency_Key="k1")
                again = await send(call, "/jobs", ORDER, Idempotency_Key="k1")
                assert (first.status_code, again.status_code, again.content) == (201, 201, first.content)
                assert len(await call("viewer", "GET", "/jobs")) == 1

    asyncio.run(scenario())
