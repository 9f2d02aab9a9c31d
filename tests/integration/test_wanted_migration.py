"""What assignments name stands beside them, and they in their envelopes only: up, and down to a hub of before."""

from pathlib import Path

from sqlalchemy import Connection, select, update

from cloud.adapters.sql_schema import migrate, migrate_down
from cloud.adapters.sql_store import make_engine
from cloud.core.rollout import Wave
from cloud.core.rollout.members import Status
from cloud.service.needs import needed_objects, objects_of
from cloud.tables import desired, devices, members, rollout_waves, rollouts
from tests.scenes.hub_steps import fleet, hub, roll_out
from tests.worlds.hub_world import World
from wire.assignment import Assignment
from wire.codec import encode

BEFORE = "0009"
TWO_COPIES = "0011"


def test_an_older_hub_reads_every_assignment_once(tmp_path: Path) -> None:
    """After the way down and up again it is there as it was; a document that cannot be read names nothing."""

    async def scenario(world: World) -> None:
        await fleet(world, 3)
        await roll_out(world, waves=(Wave(percent=100),))
        await world.tick()

    hub(tmp_path, scenario)
    engine = make_engine(tmp_path / "hub.sqlite")
    wanted = select(desired.c.device, desired.c.wanted).order_by(desired.c.device)
    numbers = select(devices.c.name, devices.c.desired_sequence).order_by(devices.c.name)
    digests = select(devices.c.desired_digest).order_by(devices.c.name)
    with engine.begin() as conn:
        before, numbered = conn.execute(wanted).all(), conn.execute(numbers).all()
        told_apart = conn.execute(digests).scalars().all()
        conn.execute(update(desired).where(desired.c.device == "p02").values(envelope=b"x"))
    migrate_down(engine, BEFORE)
    migrate(engine)
    with engine.begin() as conn:
        assert conn.execute(wanted).all() == [*before[:2], ("p02", "[]")]
        assert conn.execute(numbers).all() == numbered == [("p00", 1), ("p01", 1), ("p02", 1)]
        assert conn.execute(digests).scalars().all() == [*told_apart[:2], ""]
    assert len({*told_apart, ""}) == 4
    engine.dispose()
    assert len({row.wanted for row in before}) == 1
    assert before[0].wanted.startswith('[["')


def test_the_way_down_takes_every_assignment_out_of_its_envelope(tmp_path: Path) -> None:
    """To the byte that was signed, for a hub of before; what cannot be read is nothing."""

    async def scenario(world: World) -> None:
        await fleet(world, 2)
        await roll_out(world, waves=(Wave(percent=100),))
        await world.tick()
        wanted.append(await world.desired("p00"))

    wanted: list[Assignment] = []
    hub(tmp_path, scenario)
    engine = make_engine(tmp_path / "hub.sqlite")
    with engine.begin() as conn:
        conn.execute(update(desired).where(desired.c.device == "p01").values(envelope=b"x"))
    migrate_down(engine, TWO_COPIES)
    with engine.begin() as conn:
        held = conn.exec_driver_sql("SELECT assignment FROM desired ORDER BY device").scalars().all()
    engine.dispose()
    assert held == [encode(wanted[0]), b""]


def test_a_late_device_keeps_its_objects_needed_when_no_rollout_does(tmp_path: Path) -> None:
    """It is there and has not accepted its assignment; who is gone needs nothing of the broker."""

    async def scenario(world: World) -> None:
        await fleet(world, 2)
        await roll_out(world, waves=(Wave(percent=100),))
        await world.tick()
        await world.online("p00")
        await world.store.write(_end_the_rollout)
        needed = await world.store.read(needed_objects)
        assert {one.sha256 for one in needed} == set(await world.store.read(lambda conn: objects_of(conn, "p00")))
        assert needed
        await world.report("p00")
        assert not await world.store.read(needed_objects)

    hub(tmp_path, scenario)


def _end_the_rollout(conn: Connection) -> None:
    """With everybody who is under way in it."""
    conn.execute(update(rollouts).values(state="aborted"))
    conn.execute(update(members).values(outcome="cancelled", status=Status.ENDED))
    conn.execute(update(rollout_waves).values(in_flight=0))
