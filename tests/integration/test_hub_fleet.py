"""Devices in the hands of operators: search, groups, labels, twin, presence, history, skew, and the end of a device."""

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, update

from cloud.core.presence import GRACE_NS
from cloud.service import history
from cloud.tables import devices
from tests.scenes.hub_steps import fleet, outcomes, roll_out
from tests.worlds.api_world import Api, api
from tests.worlds.hub_world import MODEL
from wire.messages import Outcome
from wire.ports import SECOND


async def names(call: Api, selector: str) -> list[str]:
    """Devices that a selector means."""
    answer = await call.http.get(
        "/api/v1/devices", params={"selector": selector}, headers={"Authorization": "Bearer flk_viewer"}
    )
    assert answer.status_code == 200, answer.text
    return [device["name"] for device in answer.json()]


async def events(call: Api, device: str) -> list[str]:
    """What happened to it, oldest first."""
    return [one["event"] for one in await call("viewer", "GET", f"/devices/{device}/history")][::-1]


async def in_sync(call: Api, device: str) -> None:
    """It runs version 1."""
    await call.world.tick()
    await call.world.report(device)


def test_devices_are_found_by_labels_and_by_what_they_are(tmp_path: Path) -> None:
    """Labels, presence, and what runs there; a mistake is a 422 that says where."""

    async def scenario(call: Api) -> None:
        await fleet(call.world, 3)
        await call.world.online("p01")
        await roll_out(call.world)
        await call.world.tick()
        first = (await assigned(call))[0]
        await call.world.report(first)
        assert await names(call, "arm=left") == ["p00", "p01"]
        assert await names(call, "arm in (left, right), @name!=p01") == ["p00", "p02"]
        assert set(await names(call, "@online=true")) == {"p01", first}
        assert await names(call, f"@version={MODEL}/1") == [first]
        assert await names(call, "colour") == []
        assert "character 1" in await call("viewer", "GET", "/devices?selector=arm%20left", None, 422)

    api(tmp_path, scenario)


async def assigned(call: Api) -> list[str]:
    """Devices that were told to run something."""
    return [device["name"] for device in await call("viewer", "GET", "/devices") if device["desired_sequence"]]


def test_a_group_is_whoever_belongs_to_it_now(tmp_path: Path) -> None:
    """A label makes a member; rollouts go by the group, late joiners too; it cannot vanish under them."""

    async def scenario(call: Api) -> None:
        await fleet(call.world, 3)
        made = await call("operator", "PUT", "/groups/lefties", {"selector": "arm=left"})
        assert made["devices"] == 2
        by_wave = {"model": MODEL, "version": 1, "waves": [{"percent": 100, "selector": {"@group": "lefties"}}]}
        assert "waves.0.selector" in await call("operator", "POST", "/rollouts", by_wave, 422)
        await roll_out(call.world, **{"@group": "lefties"})
        assert "r1" in await call("operator", "DELETE", "/groups/lefties", None, 409)
        await call("operator", "PATCH", "/devices/p02/labels", {"put": {"arm": "left", "tier": "a"}, "drop": ["site"]})
        await call.world.tick()
        assert sorted(await outcomes(call.world)) == ["p00", "p01", "p02"]
        assert len(await call("viewer", "GET", "/groups/lefties/devices")) == 3
        await call("operator", "POST", "/rollouts/r1/abort")
        headers = {"Authorization": "Bearer flk_operator"}
        assert (await call.http.delete("/api/v1/groups/lefties", headers=headers)).status_code == 204
        unknown = {"model": MODEL, "version": 1, "waves": [{"percent": 100}], "selector": {"@group": "lefties"}}
        assert "no group 'lefties'" in await call("operator", "POST", "/rollouts", unknown, 422)

    api(tmp_path, scenario)


def test_labels_are_edited_one_by_one(tmp_path: Path) -> None:
    """What is not named stays; contradictions and floods are refused."""

    async def scenario(call: Api) -> None:
        await call.world.enrol("p00", arm="left", site="lab")
        path = "/devices/p00/labels"
        edited = await call("operator", "PATCH", path, {"put": {"tier": "a"}, "drop": ["site"]})
        assert edited["labels"] == {"arm": "left", "tier": "a"}
        assert "at once" in await call("operator", "PATCH", path, {"put": {"arm": "x"}, "drop": ["arm"]}, 422)
        many = {f"l{number}": "x" for number in range(31)}
        assert "33 labels" in await call("operator", "PATCH", path, {"put": many}, 422)
        assert "no device" in await call("operator", "PATCH", "/devices/nobody/labels", {}, 404)
        assert "may not" in await call("viewer", "PATCH", path, {}, 403)
        assert await events(call, "p00") == ["claim", "enrol", "label"]

    api(tmp_path, scenario)


def test_the_twin_says_what_stands_between_desired_and_reported(tmp_path: Path) -> None:
    """Pending, in sync, failed with the device's own reason."""

    async def scenario(call: Api) -> None:
        await fleet(call.world, 1)
        await roll_out(call.world)
        assert (await call("viewer", "GET", "/devices/p00/twin"))["slots"] == []
        await call.world.tick()
        assert await _sync(call) == ("pending", "not accepted by the device yet")
        await call.world.report("p00", Outcome.ROLLED_BACK, reason="golden outputs differ")
        assert await _sync(call) == ("failed", "golden outputs differ")
        await call.world.report("p00")
        assert await _sync(call) == ("in_sync", "")

    api(tmp_path, scenario)


async def _sync(call: Api) -> tuple[str, str]:
    slot = (await call("viewer", "GET", "/devices/p00/twin"))["slots"][0]
    return slot["sync"], slot["reason"]


def test_a_blink_is_no_absence(tmp_path: Path) -> None:
    """Away within the grace, offline after it; only the longer absence is kept."""

    async def scenario(call: Api) -> None:
        world = call.world

        async def presence() -> str:
            return str((await call("viewer", "GET", "/devices/p00/twin"))["presence"])

        await world.enrol("p00")
        await world.online("p00")
        for gone_ns, standing in ((GRACE_NS - SECOND, "away"), (GRACE_NS, "offline")):
            await world.online("p00", online=False)
            world.clock.ns += gone_ns
            assert await presence() == standing
            await world.online("p00")
            assert await presence() == "online"
        kept = (await call("viewer", "GET", "/devices/p00/history"))[0]
        assert (kept["event"], kept["detail"]["seconds"]) == ("absent", 60.0)
        assert (await events(call, "p00")).count("absent") == 1

    api(tmp_path, scenario)


def test_the_history_of_a_device_tells_everything_in_order(tmp_path: Path) -> None:
    """What people did, executions, a new agent; in pages."""

    async def scenario(call: Api) -> None:
        world = call.world
        await fleet(world, 1)
        await roll_out(world)
        world.clock.ns += SECOND
        await world.tick()
        world.clock.ns += SECOND
        await world.report("p00")
        world.clock.ns += SECOND
        await call("operator", "POST", "/devices/p00/hold", {"reason": "on the bench"})
        await call.world.store.write(
            lambda conn: conn.execute(update(devices).where(devices.c.name == "p00").values(agent="0.9"))
        )
        world.clock.ns += SECOND
        await world.report("p00")
        told = await call("viewer", "GET", "/devices/p00/history")
        assert [one["event"] for one in told] == ["agent", "hold", "succeeded", "assigned", "enrol", "claim"]
        assert (told[1]["actor"], told[1]["detail"]["reason"]) == ("operator", "on the bench")
        assert told[0]["detail"] == {"old": "0.9", "new": "test"}
        page = await call("viewer", "GET", f"/devices/p00/history?limit=2&before_ns={told[1]['at_ns']}")
        assert page == told[2:4]

    api(tmp_path, scenario)


def test_old_events_are_forgotten_and_nothing_else(tmp_path: Path) -> None:
    """What is younger stays."""

    async def scenario(call: Api) -> None:
        await call.world.enrol("p00")

        def fill(conn: Connection) -> None:
            history.note(conn, "p00", history.ABSENT, 1)
            history.note(conn, "p00", history.ABSENT, history.KEEP_NS)

        await call.world.store.write(fill)
        assert await call.world.store.write(lambda conn: history.forget(conn, 2)) == 1
        assert (await events(call, "p00")).count("absent") == 1

    api(tmp_path, scenario)


def test_the_fleet_says_who_is_there_and_which_agents_lag(tmp_path: Path) -> None:
    """Skew by version of the agent."""

    async def scenario(call: Api) -> None:
        await fleet(call.world, 3)
        await roll_out(call.world)
        await call.world.tick()
        first = (await assigned(call))[0]
        await call.world.report(first)
        told = await call("viewer", "GET", "/fleet")
        assert (told["online"], told["away"], told["offline"], told["halted"]) == (1, 0, 2, None)
        assert told["agents"] == [
            {"agent": "", "skew": "unknown", "devices": 2},
            {"agent": "test", "skew": "current", "devices": 1},
        ]

    api(tmp_path, scenario)


def test_a_decommissioned_device_is_gone_and_remembered(tmp_path: Path) -> None:
    """Not listed, nothing desired, its name is not given away by accident; its history is there."""

    async def scenario(call: Api) -> None:
        await fleet(call.world, 1)
        await roll_out(call.world)
        await in_sync(call, "p00")
        gone: dict[str, Any] = await call("operator", "POST", "/devices/p00/decommission", {"reason": "broken"})
        assert (gone["enrolled"], gone["decommissioned_ns"] is not None) == (False, True)
        assert await names(call, "") == []
        assert (await call("viewer", "GET", "/devices/p00/twin"))["desired_sequence"] == 0
        assert "decommissioned" in await call("operator", "POST", "/devices/p00/decommission", {"reason": "x"}, 409)
        assert "was decommissioned" in await call("operator", "POST", "/claims", {"device": "p00"}, 409)
        await call("operator", "POST", "/claims", {"device": "p00", "replaces": True}, 201)
        assert await names(call, "") == ["p00"]
        assert {"decommission", "revoke", "succeeded"} <= set(await events(call, "p00"))

    api(tmp_path, scenario)
