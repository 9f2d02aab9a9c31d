"""What the leader looks for again and again, on real SQLite: no more work in a large fleet than in a small one."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select, update

from cloud.core.rollout import Wave
from cloud.core.rollout.members import Status
from cloud.service import director, due, needs, suitability
from cloud.service import rollouts as rollout_service
from cloud.service.rollouts import Means
from cloud.service.rollouts.ledger import recount
from cloud.service.rollouts.plans import rollout_row
from cloud.tables import desired, devices, members, slots
from tests.scenes.hub_steps import fleet, hub, roll_out, state, waiting
from tests.worlds.hub_world import ROOT, World
from wire.messages import Outcome, Phase

FEW, MANY = 2_500, 7_500
"""Both more than two ticks look at."""
WAVES = (Wave(count=1), Wave(percent=100))


def enter_crowd(conn: Connection, first: int, end: int, rejected: int) -> None:
    """Devices that have what they shall run, all members of the rollout; the last of them were rejected."""
    wanted = conn.execute(select(desired).limit(1)).one()
    numbers = range(first, end)
    names = [f"x{number:05}" for number in numbers]
    device: dict[str, Any] = {"labels": {}, "federated": False, "claimed_ns": 1, "enrolled_ns": 1, "online": True}
    known: dict[str, Any] = {"reported_sequence": 1, "desired_sequence": 1, "reported_ns": 1}
    slot: dict[str, Any] = {"slot": "main", "phase": Phase.COMMITTED, "execution": "", "reason": ""}
    ended = {"rollout": "r1", "wave": 1, "status": Status.ENDED, "finished_ns": 2, "acknowledged": True}
    conn.execute(insert(devices), [{**device, **known, "name": name} for name in names])
    conn.execute(insert(slots), [{**slot, "device": name} for name in names])
    conn.execute(insert(desired), [{**wanted._mapping, "device": name} for name in names])
    outcomes = [Outcome.REJECTED if end - number <= rejected else Outcome.SUCCEEDED for number in numbers]
    conn.execute(
        insert(members),
        [
            {**ended, "device": name, "outcome": outcome, "measured": outcome == Outcome.SUCCEEDED}
            for name, outcome in zip(names, outcomes, strict=True)
        ],
    )
    recount(conn, rollout_row(conn, "r1"))


def steps(call: Callable[[Connection], Any], conn: Connection) -> int:
    """How many instructions SQLite carries out for it."""
    count = 0

    def note() -> int:
        nonlocal count
        count += 1
        return 0

    driver: Any = conn.connection.driver_connection
    driver.set_progress_handler(note, 1)
    try:
        call(conn)
    finally:
        driver.set_progress_handler(None, 0)
    return count


def looks(world: World) -> dict[str, Callable[[Connection], Any]]:
    """Everything that is done again and again."""
    means = Means(world.seal, world.ids, ROOT, world.clock.now_ns())
    return {
        "due": due.look,
        "outdated": director.outdated,
        "unconfirmed": functools.partial(director.unconfirmed, topics=ROOT),
        "needed": needs.needed_objects,
        "reconsider": lambda conn: suitability.reconsider(conn, rollout_row(conn, "r1"), means.now_ns),
        "tick": lambda conn: rollout_service.tick(conn, means),
        "under way": rollout_service.under_way,
    }


def test_no_look_takes_longer_in_a_larger_fleet_whose_devices_have_what_they_shall_run(tmp_path: Path) -> None:
    """Neither the look at what is due, nor that at what is needed, nor a tick of a rollout with all of them in it."""

    async def scenario(world: World) -> None:
        await fleet(world, 3)
        await roll_out(world, waves=WAVES)
        await world.tick()
        (first,) = await waiting(world)
        await world.online(first)
        found = []
        for begin, end in ((0, FEW), (FEW, MANY)):
            await world.store.write(functools.partial(enter_crowd, first=begin, end=end, rejected=(end - begin) // 2))
            await world.tick()  # as the first one after the crowd has come, which goes about something
            found.append(
                {name: await world.store.write(functools.partial(steps, call)) for name, call in looks(world).items()}
            )
        small, large = found
        assert {name: large[name] < 1.2 * small[name] for name in small} == dict.fromkeys(small, True)
        assert set(await world.store.read(lambda conn: [one.sha256 for one in needs.needed_objects(conn)]))

    hub(tmp_path, scenario)


def test_the_rejected_are_looked_at_in_turn(tmp_path: Path) -> None:
    """Whoever comes late in the alphabet waits for a few ticks, and then for his turn in the rollout."""

    async def scenario(world: World) -> None:
        await fleet(world, 3)
        await roll_out(world, waves=WAVES)
        await world.tick()
        crowd = suitability.LOOKED_AT_ONCE + 10
        await world.store.write(functools.partial(enter_crowd, first=0, end=crowd, rejected=crowd))
        await world.store.write(heard_of(f"x{crowd - 1:05}"))
        await world.tick()
        assert await again(world) == []
        await world.tick()
        assert await again(world) == [f"x{crowd - 1:05}"]
        await world.store.write(heard_of("x00000"))
        await world.tick()
        assert await again(world) == ["x00000", f"x{crowd - 1:05}"]

    hub(tmp_path, scenario)


def test_all_of_them_are_looked_at_before_a_rollout_has_succeeded(tmp_path: Path) -> None:
    """Even if it was nobody's turn yet: it goes on with those that fit now."""

    async def scenario(world: World) -> None:
        await fleet(world, 1)
        await roll_out(world, waves=(Wave(percent=100),))
        await world.tick()
        crowd = suitability.LOOKED_AT_ONCE + 10
        late = f"x{crowd - 1:05}"
        await world.store.write(functools.partial(enter_crowd, first=0, end=crowd, rejected=crowd))
        await world.store.write(lambda conn: conn.execute(update(members).values(wave=0)))
        await world.store.write(lambda conn: recount(conn, rollout_row(conn, "r1")))
        await world.store.write(heard_of(late))
        await world.report("p00")
        await world.tick()
        assert (await state(world))[0] == "running"
        assert await waiting(world) == [late]

    hub(tmp_path, scenario)


def test_what_devices_run_is_looked_through_for_deltas_once_a_wave(tmp_path: Path) -> None:
    """Not in every tick: the wave that is open keeps the deltas that were decided when it began."""

    async def scenario(world: World) -> None:
        await fleet(world, 3)
        await roll_out(world, waves=WAVES)
        packed = lambda: world.store.read(lambda conn: rollout_row(conn, "r1").packed)  # noqa: E731
        assert await packed() == -1
        await world.tick()
        assert await packed() == 0
        (first,) = await waiting(world)
        await world.report(first)
        await world.tick()
        assert (await state(world))[1] == await packed() == 1

    hub(tmp_path, scenario)


def heard_of(device: str) -> Callable[[Connection], Any]:
    """It reports after it was rejected, from hardware that nothing is known of."""
    return lambda conn: conn.execute(update(devices).where(devices.c.name == device).values(reported_ns=3))


async def again(world: World) -> list[str]:
    """Devices of the crowd that were rejected and are not any more."""
    query = select(members.c.device).where(members.c.device.like("x%"), members.c.outcome.is_(None))
    return list(await world.store.read(lambda conn: conn.scalars(query.order_by(members.c.device)).all()))
