"""Imported versions, promotion and lineage, over the API and the real services."""

from pathlib import Path
from typing import Any

from sqlalchemy import insert, select

from cloud.core.promotion import Rule
from cloud.service import promotion
from cloud.tables import models, versions
from tests.samples.foreign_version import DIGESTS, order, upload
from tests.scenes.hub_steps import fleet, request_id, roll_out
from tests.worlds.api_world import Api, api
from tests.worlds.hub_world import MODEL


async def finished_rollout(call: Api) -> None:
    """Two devices have committed version 1."""
    names = await fleet(call.world, 2)
    await roll_out(call.world)
    for _ in range(3):
        await call.world.tick()
        for name in names:
            if (await call("viewer", "GET", f"/devices/{name}"))["desired_sequence"]:
                await call.world.report(name)
    await call.world.tick()
    assert (await call("viewer", "GET", "/rollouts/r1"))["state"] == "succeeded"


def test_an_imported_version_goes_the_way_of_any_version(tmp_path: Path) -> None:
    """Numbered, described from its files, signed, released; the same run is not taken twice."""

    async def scenario(call: Api) -> None:
        await upload(call)
        made = await call("operator", "POST", "/models/foreign/versions", order(), 201)
        variant = made["release"]["variants"][0]
        assert (made["version"], made["state"], made["chosen"]) == (1, "awaiting_signature", "fp32")
        assert (variant["needs"]["operators"], variant["needs"]["opset"]) == (["MatMul"], 17)
        assert variant["file"]["sha256"] == DIGESTS["parent"]
        assert "entered already" in await call("operator", "POST", "/models/foreign/versions", order(), 409)
        await call.world.sign(await request_id(call.world))
        assert (await call("viewer", "GET", "/models/foreign/versions/1"))["state"] == "released"

    api(tmp_path, scenario)


def test_what_would_fail_on_every_device_is_refused_at_the_door(tmp_path: Path) -> None:
    """Files that are not there or of the wrong kind, borders that no device knows, half of a learning graph."""

    async def scenario(call: Api) -> None:
        await upload(call)
        variant = order()["variants"][0]
        wrong = {
            "upload the file first": order(parent="0" * 64),
            "is safetensors; onnx is wanted": order(parent=DIGESTS["parameters"]),
            "no device can run": order(variants=[variant | {"name": "w", "sha256": DIGESTS["parameters"]}]),
            "has no tensor 'logits/int8'": order(variants=[variant | {"logits": "logits/int8"}]),
            "go together": order(batch=16),
            "two variants": order(variants=[variant, variant]),
            "no version 7": order(parent_version=7),
            "data_sha256": order(data_sha256="short"),
        }
        for reason, body in wrong.items():
            assert reason in await call("operator", "POST", "/models/foreign/versions", body, 422)
        assert await call("viewer", "GET", "/models") == []

    api(tmp_path, scenario)


def test_a_version_is_promoted_by_its_rule_and_the_step_is_audited(tmp_path: Path) -> None:
    """Not before devices have shown it; then once; a written reason overrides."""

    async def scenario(call: Api) -> None:
        path = f"/models/{MODEL}/versions/1"
        names = await fleet(call.world, 1)
        assert "no rollout of it has succeeded" in await call("operator", "POST", f"{path}/promote", {}, 409)
        await call("operator", "PUT", f"/models/{MODEL}/promotion-rule", {"min_devices": 1, "min_commit_rate": 0.5})
        await roll_out(call.world)
        await call.world.tick()
        assert "still active" in await call("operator", "POST", f"{path}/promote", {}, 409)
        await call.world.report(names[0])
        await call.world.tick()
        await call.world.tick()
        assert (await call("viewer", "GET", f"{path}/promotion"))["unmet"] == []
        assert (await call("operator", "POST", f"{path}/promote", {}))["stage"] == "production"
        assert "in production" in await call("operator", "POST", f"{path}/retire", {"reason": "old"}, 409)
        assert "may not" in await call("viewer", "POST", f"{path}/promote", {}, 403)

    api(tmp_path, scenario)


def test_an_automatic_rule_promotes_without_anybody(tmp_path: Path) -> None:
    """As soon as it is met, and only then."""

    async def scenario(call: Api) -> None:
        await finished_rollout(call)
        path = f"/models/{MODEL}/versions/1/promotion"

        async def swept(rule: dict[str, Any]) -> str:
            await call("operator", "PUT", f"/models/{MODEL}/promotion-rule", rule)
            await call.world.change(promotion.promote_due)
            return str((await call("viewer", "GET", path))["stage"])

        assert await swept({"automatic": False}) == "released"
        assert await swept({"automatic": True, "min_devices": 3}) == "released"
        assert await call.world.store.read(promotion.due) == []  # nothing that the leader would have to write for
        assert await swept({"automatic": True, "min_devices": 2}) == "production"
        assert await call.world.store.read(promotion.due) == []

    api(tmp_path, scenario)


def test_what_a_person_stepped_back_from_is_not_promoted_again(tmp_path: Path) -> None:
    """Version 2 got into production by its rule, a person went back to 1: the hub leaves it there. A newer one may."""

    async def scenario(call: Api) -> None:
        await fleet(call.world, 1)
        rule = Rule(min_devices=0, min_commit_rate=0, finished_rollout=False, automatic=True)
        await call.world.change(lambda conn, now_ns: promotion.set_rule(conn, MODEL, rule, "me", now_ns))
        assert await production_after(call, 2) == 2
        await call.world.change(lambda conn, now_ns: promotion.promote(conn, (MODEL, 1), "me", now_ns))
        await call.world.change(promotion.promote_due)
        assert await call.world.store.read(lambda conn: conn.scalar(select(models.c.production))) == 1
        assert await production_after(call, 3) == 3

    api(tmp_path, scenario)


async def production_after(call: Api, number: int) -> int | None:
    """What the rule makes of a version that is released now, of the same files as version 1."""

    def write(conn: Any) -> None:
        one = dict(conn.execute(select(versions).where(versions.c.version == 1)).one()._mapping)
        conn.execute(insert(versions).values({**one, "version": number, "counter": number}))

    await call.world.store.write(write)
    await call.world.change(promotion.promote_due)
    return await call.world.store.read(lambda conn: conn.scalar(select(models.c.production)))


def test_a_retired_version_cannot_be_used(tmp_path: Path) -> None:
    """409 with the reason it was retired for; not while a rollout uses it."""

    async def scenario(call: Api) -> None:
        await fleet(call.world, 1)
        path = f"/models/{MODEL}/versions/1/retire"
        await roll_out(call.world)
        assert "rollout r1" in await call("operator", "POST", path, {"reason": "leaks"}, 409)
        await call("operator", "POST", "/rollouts/r1/abort")
        assert (await call("operator", "POST", path, {"reason": "leaks"}))["stage"] == "retired"
        rollout = {"model": MODEL, "version": 1, "waves": [{"percent": 100}]}
        assert "it was retired: leaks" in await call("operator", "POST", "/rollouts", rollout, 409)
        promotion_path = path.replace("retire", "promote")
        assert "is retired" in await call("operator", "POST", promotion_path, {"override": "x"}, 409)

    api(tmp_path, scenario)


def test_the_lineage_of_a_version_is_told(tmp_path: Path) -> None:
    """From its data to its rollout; and from the data to everything made of it."""

    async def scenario(call: Api) -> None:
        await finished_rollout(call)
        told = await call("viewer", "GET", f"/models/{MODEL}/versions/1/lineage")
        kinds = {node["kind"] for node in told["nodes"]}
        assert kinds == {"data", "run", "candidate", "variant", "version", "rollout"}
        assert any(node["id"] == f"run:{told['lineage']}" for node in told["nodes"])
        of_data = await call("viewer", "GET", f"/lineage?node=data:{'d' * 64}")
        assert "rollout:r1" in {node["id"] for node in of_data["nodes"]}
        assert "kind:name" in await call("viewer", "GET", "/lineage?node=version:watch/9", None, 404)

    api(tmp_path, scenario)
