"""API keys: what they reach, when they end, and what happens to those who guess."""

import logging
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from cloud.api.door import PageDoor
from cloud.api.limits import Limits
from cloud.core.identity import digest
from cloud.errors import StoreError, TooManyError
from cloud.service.keys import KeysInUse, KnownKeys
from cloud.tables import audit
from cloud.web.gate import DoorError
from tests.worlds.api_world import Api, api, context_of
from tests.worlds.hub_world import MODEL

SECOND = 1_000_000_000


async def as_key(call: Api, key: str, method: str, path: str, body: Any = None) -> Any:
    """Call with any key."""
    return await call.http.request(method, f"/api/v1{path}", json=body, headers={"Authorization": f"Bearer {key}"})


async def make(call: Api, name: str, role: str = "viewer", **terms: Any) -> dict[str, Any]:
    """A new key."""
    made: dict[str, Any] = await call("admin", "POST", "/keys", {"name": name, "role": role, **terms}, 201)
    return made


def test_a_key_ends_at_its_time(tmp_path: Path) -> None:
    """401 from that moment on, saying why; the list shows it as expired."""

    async def scenario(call: Api) -> None:
        made = await make(call, "ci", expires_in_s=60)
        assert (await as_key(call, made["key"], "GET", "/devices")).status_code == 200
        call.world.clock.ns += 60 * SECOND
        answer = await as_key(call, made["key"], "GET", "/devices")
        assert (answer.status_code, "'ci' has expired" in answer.text) == (401, True)
        (shown,) = [one for one in await call("admin", "GET", "/keys") if one["id"] == made["id"]]
        assert (shown["state"], "key" in shown) == ("expired", False)

    api(tmp_path, scenario)


def test_a_revoked_key_is_out_at_once_and_its_name_is_free_again(tmp_path: Path) -> None:
    """Revoking twice is no mistake; two keys in use never share a name."""

    async def scenario(call: Api) -> None:
        made = await make(call, "ci")
        assert made["id"] in await call("admin", "POST", "/keys", {"name": "ci", "role": "admin"}, 409)
        assert (await as_key(call, made["key"], "GET", "/me")).status_code == 200
        for _ in range(2):
            assert (await call("admin", "POST", f"/keys/{made['id']}/revoke"))["state"] == "revoked"
        assert "was revoked" in (await as_key(call, made["key"], "GET", "/me")).text
        again = await make(call, "ci")
        assert (await as_key(call, again["key"], "GET", "/me")).json()["name"] == "ci"

    api(tmp_path, scenario)


def test_the_last_lasting_administrator_stays(tmp_path: Path) -> None:
    """Nobody locks himself out; a key with an end is no replacement."""

    async def scenario(call: Api) -> None:
        me = await call("admin", "GET", "/me")
        await make(call, "for-a-day", "admin", expires_in_s=86_400)
        assert "last administrator" in await call("admin", "POST", f"/keys/{me['id']}/revoke", None, 409)
        await make(call, "second", "admin")
        assert (await call("admin", "POST", f"/keys/{me['id']}/revoke"))["state"] == "revoked"
        assert "was revoked" in await call("admin", "GET", "/keys", None, 401)

    api(tmp_path, scenario)


def test_an_administrator_cannot_be_bounded(tmp_path: Path) -> None:
    """Such a key could make itself an unbounded one."""

    async def scenario(call: Api) -> None:
        bounded = {"name": "x", "role": "admin", "models": ["m"]}
        assert "reaches everything" in await call("admin", "POST", "/keys", bounded, 422)

    api(tmp_path, scenario)


def test_devices_beyond_a_keys_labels_do_not_exist_for_it(tmp_path: Path) -> None:
    """Neither seen nor claimed, revoked or rolled out to; the answer is that for a device that is not there."""

    async def scenario(call: Api) -> None:
        await call.world.enrol("b-01", site="berlin")
        await call.world.enrol("p-01", site="paris")
        key = (await make(call, "berlin", "operator", labels={"site": "berlin"}))["key"]
        seen = (await as_key(call, key, "GET", "/devices")).json()
        assert [one["name"] for one in seen] == ["b-01"]
        for method, path in (("GET", ""), ("POST", "/revoke"), ("POST", "/clone-alarm/off")):
            body = {"reason": "x"} if path == "/revoke" else None
            beyond = await as_key(call, key, method, f"/devices/p-01{path}", body)
            nowhere = await as_key(call, key, method, f"/devices/q-01{path}", body)
            assert (beyond.status_code, nowhere.status_code) == (404, 404)
            assert beyond.json()["detail"] == nowhere.json()["detail"].replace("q-01", "p-01")
        for claim in (
            {"device": "p-01"},
            {"device": "p-01", "labels": {"site": "berlin"}},
            {"device": "b-01", "labels": {"site": "paris"}},
            {"device": "new"},
        ):
            assert (await as_key(call, key, "POST", "/claims", claim)).status_code == 403, claim
        for claim in ({"device": "b-01"}, {"device": "b-02", "labels": {"site": "berlin", "hall": "3"}}):
            assert (await as_key(call, key, "POST", "/claims", claim)).status_code == 201, claim
        assert (await call("viewer", "GET", "/devices/p-01"))["enrolled"] is True

    api(tmp_path, scenario)


def test_rollouts_and_models_beyond_a_keys_reach_do_not_exist_for_it(tmp_path: Path) -> None:
    """A selector has to stay inside the labels; what others do elsewhere is not shown and cannot be steered."""

    async def scenario(call: Api) -> None:
        world = call.world
        await world.enrol("b-01", site="berlin")
        await world.enrol("p-01", site="paris")
        await call("operator", "POST", "/jobs", {"kind": "train", "model": MODEL, "workload": "watch"}, 201)
        await world.train()
        (request,) = await call("publisher", "GET", "/signing-requests")
        await world.sign(request["id"])
        berlin = (await make(call, "berlin", "operator", labels={"site": "berlin"}))["key"]
        other = (await make(call, "other", "operator", models=["press"]))["key"]
        order = {"model": MODEL, "version": 1, "waves": [{"percent": 100}]}
        paris = await call("operator", "POST", "/rollouts", {**order, "selector": {"site": "paris"}}, 201)

        for selector in ({}, {"site": "paris"}, {"hall": "3"}):
            answer = await as_key(call, berlin, "POST", "/rollouts", {**order, "selector": selector})
            assert (answer.status_code, "selector" in answer.text) == (403, True)
        mine = await as_key(call, berlin, "POST", "/rollouts", {**order, "selector": {"site": "berlin"}})
        assert mine.status_code == 201
        assert [one["id"] for one in (await as_key(call, berlin, "GET", "/rollouts")).json()] == [mine.json()["id"]]
        for method, path in (("GET", ""), ("POST", "/abort")):
            assert (await as_key(call, berlin, method, f"/rollouts/{paris['id']}{path}")).status_code == 404
            assert (await as_key(call, other, method, f"/rollouts/{paris['id']}{path}")).status_code == 404
        for path in ("/models", "/jobs", "/rollouts", "/signing-requests", "/federated-runs"):
            assert (await as_key(call, other, "GET", path)).json() == [], path
        for path in (f"/models/{MODEL}/versions", f"/models/{MODEL}/versions/1"):
            assert (await as_key(call, other, "GET", path)).status_code == 404
        assert (await as_key(call, other, "POST", "/rollouts", order)).status_code == 404

    api(tmp_path, scenario)


def test_a_publisher_signs_only_for_its_models(tmp_path: Path) -> None:
    """The signing requests of other models are not there for it."""

    async def scenario(call: Api) -> None:
        await call("operator", "POST", "/jobs", {"kind": "train", "model": MODEL, "workload": "watch"}, 201)
        await call.world.train()
        (request,) = await call("publisher", "GET", "/signing-requests")
        key = (await make(call, "press", "publisher", models=["press"]))["key"]
        where = f"/signing-requests/{request['id']}"
        refusal = await as_key(call, key, "POST", f"{where}/refusal", {"reason": "because"})
        signature = await as_key(call, key, "POST", f"{where}/signature", {"metadata": {"bin-0": "e30="}})
        assert (refusal.status_code, signature.status_code) == (404, 404)
        assert (await call("publisher", "GET", "/signing-requests"))[0]["state"] == "pending"

    api(tmp_path, scenario)


def test_guessing_is_slowed_down_and_neighbours_are_not(tmp_path: Path) -> None:
    """After ten bad keys even a good one is not looked at, unless it was good from there before; time heals it."""

    async def scenario(call: Api) -> None:
        fresh = (await make(call, "fresh"))["key"]
        for number in range(10):
            assert (await as_key(call, f"flk_{number}", "GET", "/devices")).status_code == 401
        answer = await as_key(call, fresh, "GET", "/devices")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "10")
        assert (await call("admin", "GET", "/me"))["name"] == "admin"
        call.world.clock.ns += 10 * SECOND
        assert (await as_key(call, fresh, "GET", "/devices")).status_code == 200
        assert (await as_key(call, "flk_x", "GET", "/devices")).status_code == 401
        assert (await as_key(call, "flk_y", "GET", "/devices")).status_code == 429

    api(tmp_path, scenario)


def test_a_guesser_is_one_address_where_the_hub_listens_to_all() -> None:
    """There an IPv4 caller is `::ffff:` and his address; an IPv6 site is one guesser, with all the addresses it has."""
    limits = Limits()
    for number in range(10):
        limits.bad("::ffff:192.0.2.1", f"guess-{number}", 0)
        limits.bad(f"2001:db8::{number}", f"guess-{number}", 0)
    for stranger in ("::ffff:198.51.100.7", "2001:db8:1::1"):
        limits.hear(stranger, "good", 0)
    for guesser in ("192.0.2.1", "2001:db8::ffff"):
        with pytest.raises(TooManyError):
            limits.hear(guesser, "good", 0)


def test_a_key_has_its_own_rate(tmp_path: Path) -> None:
    """429 with the time to wait; other keys go on."""

    async def scenario(call: Api) -> None:
        key = (await make(call, "slow", requests_per_s=1))["key"]
        codes = [(await as_key(call, key, "GET", "/devices")).status_code for _ in range(3)]
        assert codes == [200, 200, 429]
        assert (await as_key(call, key, "GET", "/devices")).headers["retry-after"] == "1"
        assert (await call("viewer", "GET", "/me"))["role"] == "viewer"
        call.world.clock.ns += SECOND
        assert (await as_key(call, key, "GET", "/devices")).status_code == 200

    api(tmp_path, scenario)


def test_no_secret_gets_into_a_log_or_the_audit_trail(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Keys good and bad, claim tokens, the enrolment password: in no line, at the finest level, and in no row."""

    async def scenario(call: Api) -> None:
        made = await make(call, "ci")
        claim = await call.claim("p01")
        await as_key(call, "flk_guessed-secret", "GET", "/devices")
        await call("admin", "POST", f"/keys/{made['id']}/revoke")
        await as_key(call, made["key"], "GET", "/devices")
        rows = await call.world.store.read(lambda conn: conn.execute(select(audit)).all())
        text = caplog.text + repr(rows)
        assert "refused an API key" in text
        for secret in (made["key"], made["key"][4:], "guessed-secret", claim["token"], "enrol-password", "flk_admin"):
            assert secret not in text

    with caplog.at_level(logging.DEBUG):
        api(tmp_path, scenario)


class Away:
    """A store without its database."""

    async def write(self, call: Any) -> Any:
        """Not now."""
        raise StoreError("the database server is gone")

    read = write


def test_when_a_key_was_used_is_written_for_all_of_them_at_once_and_by_no_request(tmp_path: Path) -> None:
    """What could not be written is remembered until it is; the newest use counts."""

    async def scenario(call: Api) -> None:
        used, world = KeysInUse(), call.world

        async def saved() -> dict[str, int | None]:
            await used.save(world.store)
            return {one["name"]: one["used_ns"] for one in await call("admin", "GET", "/keys")}

        shas = {role: digest(f"flk_{role}") for role in ("viewer", "operator")}
        assert set((await saved()).values()) == {None}
        for at_ns in (5, 7):
            used.note(shas["viewer"], at_ns)
        used.note(shas["operator"], 6)
        with pytest.raises(StoreError):
            await used.save(Away())
        known = await saved()
        assert [known[role] for role in ("viewer", "operator", "admin")] == [7, 6, None]

        class Slow:
            """A database that takes its time: the key is used once more meanwhile."""

            async def write(self, call: Any) -> None:
                await world.store.write(call)
                used.note(shas["viewer"], 9)

        used.note(shas["viewer"], 8)
        await used.save(Slow())  # type: ignore[arg-type]
        assert (await saved())["viewer"] == 9

    api(tmp_path, scenario)


def test_a_key_is_looked_up_once_and_anew_after_every_change(tmp_path: Path) -> None:
    """Beside other hubs for a second at most; a look that was under way when something changed is not relied on."""

    async def scenario(call: Api) -> None:
        world, sha256, looks = call.world, digest("flk_viewer"), list[int]()

        class Counting:
            """A store whose answers can come after a change."""

            late: KnownKeys | None = None

            async def read(self, question: Any) -> Any:
                looks.append(1)
                answer = await world.store.read(question)
                if self.late is not None:
                    self.late.forget()
                return answer

        async def looked(known: KnownKeys, sha256: str, now_ns: int) -> int:
            before = len(looks)
            await known.find(store, sha256, now_ns)  # type: ignore[arg-type]
            return len(looks) - before

        store = Counting()
        alone, beside = KnownKeys(), KnownKeys(SECOND)
        assert [await looked(alone, sha256, at) for at in (0, 9 * SECOND)] == [1, 0]
        alone.forget()
        assert [await looked(alone, sha256, 0) for _ in range(2)] == [1, 0]
        assert [await looked(beside, sha256, at) for at in (SECOND, 2 * SECOND - 1, 2 * SECOND, 0)] == [1, 0, 1, 1]
        assert [await looked(alone, digest("guessed"), 0) for _ in range(2)] == [1, 1]
        store.late = raced = KnownKeys()
        assert [await looked(raced, sha256, 0) for _ in range(2)] == [1, 1]

    api(tmp_path, scenario)


def test_the_page_is_closed_to_keys_that_reach_a_part_of_the_fleet(tmp_path: Path) -> None:
    """It shows all of it; another key of the same role opens it."""

    async def scenario(call: Api) -> None:
        door = PageDoor(context_of(call.world))
        part, whole = await make(call, "hall-3", labels={"hall": "3"}), await make(call, "everything")
        with pytest.raises(DoorError, match="only a part of the fleet") as refused:
            await door.enter("127.0.0.1", part["key"])
        assert refused.value.status == 403
        assert await door.is_good(await door.enter("127.0.0.1", whole["key"]))

    api(tmp_path, scenario)
