"""What every store promises: SQLite, PostgreSQL, and the one in memory that the simulator uses."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from bench.postgres_server import PostgresServer, installed, postgres_server
from cloud.adapters.postgres_store import PostgresStore
from cloud.adapters.sql_store import SqlStore
from cloud.errors import StoreError
from cloud.ports import Store
from cloud.tables import models, objects
from cloud.upsert import upsert
from simulator.fakes.store import MemoryStore
from tests.servers.postgres import NEEDS_POSTGRES

Opened = Callable[[], contextlib.AbstractAsyncContextManager[Store]]
KINDS = ("memory", "sqlite", pytest.param("postgresql", marks=NEEDS_POSTGRES))


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer | None]:
    """A PostgreSQL server, where it is installed."""
    with postgres_server() if installed() else contextlib.nullcontext() as one:
        yield one


@pytest.fixture(params=KINDS)
def opened(request: pytest.FixtureRequest, tmp_path: Path, server: PostgresServer | None) -> Opened:
    """Opens the same empty store, again and again."""
    memory = MemoryStore()
    address = server.database() if request.param == "postgresql" and server else ""

    @contextlib.asynccontextmanager
    async def open_it() -> AsyncIterator[Store]:
        if request.param == "memory":
            yield memory
            return
        store = PostgresStore(address) if address else SqlStore(tmp_path / "hub.sqlite")
        await store.open()
        yield store
        store.close()

    return open_it


def run(opened: Opened, scenario: Callable[[Store], Awaitable[None]]) -> None:
    """Run a scenario on the store."""

    async def on_store() -> None:
        async with opened() as store:
            await scenario(store)

    asyncio.run(on_store())


def add(name: str, last: int = 0) -> Callable[[Connection], None]:
    """Enter a model."""

    def call(conn: Connection) -> None:
        conn.execute(insert(models).values(name=name, workload="w", last_version=last, created_ns=1))

    return call


def names(conn: Connection) -> list[str]:
    """The models there are."""
    return list(conn.scalars(select(models.c.name).order_by(models.c.name)))


def test_what_was_written_is_there_when_it_is_opened_again(opened: Opened) -> None:
    """Durable, and migrated only once."""
    run(opened, lambda store: store.write(add("a")))

    async def look(store: Store) -> None:
        assert await store.read(names) == ["a"]

    run(opened, look)


def test_a_call_that_fails_changes_nothing(opened: Opened) -> None:
    """Not even what it did before; and the store goes on."""

    async def scenario(store: Store) -> None:
        def fail(conn: Connection) -> None:
            add("half")(conn)
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await store.write(fail)
        await store.write(add("whole"))
        assert await store.read(names) == ["whole"]

    run(opened, scenario)


def test_a_part_can_be_taken_back_by_itself(opened: Opened) -> None:
    """Savepoints: what was done before and after stays."""

    def call(conn: Connection) -> None:
        add("before")(conn)
        with pytest.raises(IntegrityError), conn.begin_nested():
            conn.execute(insert(models), [{"name": "inside", "workload": "w", "created_ns": 1}] * 2)
        add("behind")(conn)

    async def scenario(store: Store) -> None:
        await store.write(call)
        assert await store.read(names) == ["before", "behind"]

    run(opened, scenario)


def test_an_upsert_changes_what_is_there_and_enters_what_is_not(opened: Opened) -> None:
    """One row, or many at once; or nothing, where that is asked for."""

    def call(conn: Connection) -> None:
        row = upsert(objects)
        statement = row.on_conflict_do_update(index_elements=["sha256"], set_={"bytes": row.excluded["bytes"]})
        for size in (1, 2):
            conn.execute(statement, [{"sha256": name, "bytes": size, "created_ns": 0} for name in "ab"])
        conn.execute(upsert(objects).values(sha256="a", bytes=9, created_ns=0).on_conflict_do_nothing())

    async def scenario(store: Store) -> None:
        await store.write(call)
        assert await store.read(lambda conn: conn.scalar(select(func.sum(objects.c.bytes)))) == 4

    run(opened, scenario)


def test_calls_that_count_on_what_they_read_do_not_lose_one_another(opened: Opened) -> None:
    """Two stores on one database where there can be two: each number is taken once."""

    def take_number(conn: Connection) -> int:
        last = conn.scalars(select(models.c.last_version).where(models.c.name == "m")).one()
        conn.execute(update(models).where(models.c.name == "m").values(last_version=last + 1))
        return last

    async def scenario() -> list[int]:
        async with opened() as one, one_more(opened, one) as other:
            await one.write(add("m"))
            takers = [store.write(take_number) for _ in range(40) for store in (one, other)]
            return await asyncio.gather(*takers)

    assert sorted(asyncio.run(scenario())) == list(range(80))


@contextlib.asynccontextmanager
async def one_more(opened: Opened, first: Store) -> AsyncIterator[Store]:
    """A second store on the same database, if that is what the first one is for."""
    if not isinstance(first, PostgresStore):
        yield first
        return
    async with opened() as store:
        yield store


def test_two_calls_that_each_allow_for_what_the_other_changes_leave_one_of_both(opened: Opened) -> None:
    """Write skew: each enters something only if the other has not, and neither has seen the other's row."""

    def enter_if_alone(name: str) -> Callable[[Connection], None]:
        def call(conn: Connection) -> None:
            if not names(conn):
                add(name)(conn)

        return call

    async def scenario() -> list[str]:
        async with opened() as one, one_more(opened, one) as other:
            for _ in range(10):
                await asyncio.gather(one.write(enter_if_alone("a")), other.write(enter_if_alone("b")))
                assert len(await one.read(names)) == 1
                await one.write(lambda conn: conn.execute(models.delete()))
            return await one.read(names)

    assert asyncio.run(scenario()) == []


def test_a_question_waits_for_no_change(opened: Opened) -> None:
    """It is answered as things stood before, while a change is under way; behind it, as they stand then."""

    async def scenario(store: Store) -> None:
        if isinstance(store, MemoryStore):
            return  # one thread: nothing is ever under way
        begun, go_on = threading.Event(), threading.Event()

        def change(conn: Connection) -> None:
            add("a")(conn)
            begun.set()
            go_on.wait(10)

        changing = asyncio.create_task(store.write(change))
        await asyncio.to_thread(begun.wait, 10)
        assert await asyncio.wait_for(store.read(names), 5) == []
        go_on.set()
        await changing
        assert await store.read(names) == ["a"]

    run(opened, scenario)


def test_a_question_changes_nothing(opened: Opened) -> None:
    """Whoever takes the wrong one of the two is told at once."""

    async def scenario(store: Store) -> None:
        if isinstance(store, MemoryStore):
            return
        with pytest.raises((StoreError, DBAPIError), match=r"readonly|read-only"):
            await store.read(add("a"))
        assert await store.read(names) == []

    run(opened, scenario)


def test_reading_cannot_keep_half_of_a_change(opened: Opened) -> None:
    """A snapshot: two looks within one call see the same."""

    async def scenario(store: Store) -> None:
        await asyncio.gather(*(store.write(add(f"m{number}")) for number in range(20)))
        looks = await asyncio.gather(*(store.read(lambda conn: (names(conn), names(conn))) for _ in range(20)))
        assert all(first == second for first, second in looks)

    run(opened, scenario)
