"""A database that is away for a while, or full: no message is lost, no job is given up, and callers are told."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Connection, insert, select, text
from sqlalchemy.exc import OperationalError

from cloud.adapters.sql_store import SqlStore
from cloud.api import problems
from cloud.api.context import Context
from cloud.api.door import PageDoor
from cloud.api.limits import Limits
from cloud.api.problems import TO_THE_LOG
from cloud.bootstrap import started
from cloud.errors import StoreError
from cloud.service.inbox import Inbox
from cloud.service.jobs import Jobs, add
from cloud.service.keys import KnownKeys
from cloud.service.optimize_jobs import OptimizeJobs
from cloud.settings import Settings
from cloud.settings_check import SettingsError
from cloud.tables import jobs, models
from cloud.web.gate import DoorError
from tests.scenes.hub_steps import counters, fleet, hub, telemetry
from tests.worlds.hub_fakes import FakeClock
from tests.worlds.hub_world import ROOT, World, inbound, run_until_idle

T = TypeVar("T")


class PatientClock(FakeClock):
    """Waits for no time at all."""

    async def sleep(self, ns: int) -> None:
        """Somebody else's turn."""
        await asyncio.sleep(0)


class Moody:
    """A store of which certain writes (counted from 1) find no database."""

    def __init__(self, store: SqlStore, *away: int) -> None:
        self._store = store
        self._away = away
        self.writes = 0

    async def write(self, call: Callable[[Connection], T]) -> T:
        """As the store does, when it is there."""
        self.writes += 1
        if self.writes in self._away:
            raise StoreError("the database server is gone")
        return await self._store.write(call)

    async def read(self, call: Callable[[Connection], T]) -> T:
        """Always there."""
        return await self._store.read(call)


def test_messages_wait_for_the_database_unacknowledged(tmp_path: Path) -> None:
    """However often it is tried; then they are taken once."""

    async def scenario(world: World) -> None:
        await fleet(world, 1)
        store = Moody(world.store, 1, 2, 3)
        clock, acked = PatientClock(), []
        inbox = Inbox(store, world.outbox, clock, world.door)
        inbox.take(inbound(ROOT.up("p00", "telemetry"), telemetry(1, 10, 9), acked))
        for ring in clock.alarms:  # telemetry waits a moment for more of it
            ring()
        running = asyncio.create_task(inbox.run())
        async with asyncio.timeout(5):
            while store.writes < 4:
                assert acked == []
                await asyncio.sleep(0)
            while not acked:
                await asyncio.sleep(0.005)
        running.cancel()
        assert (await counters(world, "p00")).predictions == 10

    hub(tmp_path, scenario)


def test_a_job_is_put_back_and_launched_again(tmp_path: Path) -> None:
    """A job that could not even be marked as started has not failed."""

    async def scenario(world: World) -> None:
        row = {"name": "watch", "workload": "w", "created_ns": 1}
        await world.store.write(lambda conn: conn.execute(insert(models), row))
        await world.store.write(lambda conn: add(conn, "j1", "train", "watch", {"workload": "w", "seed": 0}, 1))
        world.launcher.failure = "a reason of its own"
        store = Moody(world.store, 2, 3, 4)
        kind = OptimizeJobs(store, world.objects, world.launcher, world.clock, world.ids)
        await run_until_idle(world, Jobs(store, world.outbox, world.launcher, PatientClock(), {"train": kind}))
        found = await world.store.read(lambda conn: conn.execute(select(jobs)).one())
        assert (found.state, found.error, len(world.launcher.orders)) == ("failed", "a reason of its own", 1)
        assert store.writes > 5

    hub(tmp_path, scenario)


def test_a_full_disk_is_told_as_such_and_a_defect_is_not(tmp_path: Path) -> None:
    """What is wrong with the statement is not the environment's fault: nobody shall wait for it to get better."""

    async def scenario() -> None:
        store = SqlStore(tmp_path / "hub.sqlite")
        await store.open()
        await store.write(lambda conn: conn.exec_driver_sql("PRAGMA max_page_count=1"))
        row = {"name": "m", "workload": "w" * 200, "created_ns": 1}
        with pytest.raises(StoreError, match="full"):
            await store.write(
                lambda conn: conn.execute(insert(models), [{**row, "name": f"m{number}"} for number in range(5_000)])
            )
        with pytest.raises(OperationalError):
            await store.write(lambda conn: conn.execute(text("SELECT * FROM nothing")))
        assert await store.read(lambda conn: conn.scalars(select(models.c.name)).all()) == []
        store.close()

    asyncio.run(scenario())


def test_the_api_says_that_the_database_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """503, as a problem that says when to try again; where the database is, only the log says."""
    app = FastAPI()
    problems.install(app)

    @app.get("/")
    async def look() -> None:
        raise StoreError("the database /srv/hub.sqlite is gone")

    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://hub") as http:
            return await http.get("/")

    answer = asyncio.run(call())
    assert (answer.status_code, answer.json()["detail"]) == (503, TO_THE_LOG[StoreError])
    assert int(answer.headers["retry-after"]) > 0
    assert "/srv" not in answer.text
    assert f"(request {answer.json()['request_id']}): the database /srv/hub.sqlite is gone" in caplog.text


def test_the_page_says_no_more_of_it_than_the_api(caplog: pytest.LogCaptureFixture) -> None:
    """Neither to whoever is in, nor to whoever shows a key."""

    class Away:
        clock, limits, known_keys = FakeClock(), Limits(), KnownKeys()

        async def read(self, call: object) -> None:
            raise StoreError("the database /srv/hub.sqlite is gone")

        @property
        def store(self) -> "Away":
            return self

    door = PageDoor(cast(Context, Away()))
    for asked in (door.enter("127.0.0.1", "flk_any"), door.is_good("key-1")):
        with pytest.raises(DoorError, match="ask again") as refused:
            asyncio.run(asked)
        assert (refused.value.status, "/srv" in str(refused.value)) == (503, False)
        assert "/srv/hub.sqlite" in caplog.text
        caplog.clear()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"replica": "a"}, "PostgreSQL"),
        ({"replica": "a", "database_url": "postgresql://hub@127.0.0.1/x"}, "external"),
        ({"database_url": "postgresql://hub@127.0.0.1/x", "database_password_file": "/nowhere"}, "/nowhere"),
    ],
)
def test_settings_that_several_hubs_cannot_share_are_refused(
    tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    """Before anything is opened."""

    async def start() -> None:
        async with started(Settings(data_dir=str(tmp_path), **settings)):  # type: ignore[arg-type]
            pass

    with pytest.raises(SettingsError, match=message):
        asyncio.run(start())
