"""Pains that users of other systems report and that the API could cause (docs/pains.md)."""

from pathlib import Path

from tests.scenes.hub_steps import fleet
from tests.worlds.api_world import Api, api
from tests.worlds.hub_world import MODEL

ORDER = {"model": MODEL, "version": 1, "waves": [{"percent": 100}]}


def test_a_stuck_rollout_is_aborted_and_the_next_one_starts_at_once(tmp_path: Path) -> None:
    """Its devices say nothing; nobody waits for their timeout, and they are told anew."""

    async def scenario(call: Api) -> None:
        names = await fleet(call.world, 2)
        stuck = await call("operator", "POST", "/rollouts", ORDER, 201)
        await call.world.tick()
        before = {name: (await call("viewer", "GET", f"/devices/{name}"))["desired_sequence"] for name in names}
        assert stuck["id"] in await call("operator", "POST", "/rollouts", ORDER, 409)
        assert (await call("operator", "POST", f"/rollouts/{stuck['id']}/abort"))["state"] == "aborted"
        await call("operator", "POST", "/rollouts", ORDER, 201)
        await call.world.tick()
        for name in names:
            assert (await call("viewer", "GET", f"/devices/{name}"))["desired_sequence"] > before[name] > 0

    api(tmp_path, scenario)
