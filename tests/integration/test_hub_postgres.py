"""What only PostgreSQL has: a server that goes away, other hubs, passwords, and clients that stop in the middle."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import wait

import pytest
from sqlalchemy import Connection, insert, select, update

from bench.postgres_server import PostgresServer, postgres_server
from cloud.adapters import postgres_store
from cloud.adapters.postgres_store import MAX_DISPUTES, PostgresStore, parse
from cloud.errors import StoreError
from cloud.service import audit
from cloud.service.changes import Changes
from cloud.tables import models
from tests.servers.postgres import NEEDS_POSTGRES

pytestmark = NEEDS_POSTGRES
SECRET = "correct-horse"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A running server."""
    with postgres_server() as one:
        yield one


def last(conn: Connection) -> int:
    """How far it has been counted."""
    return conn.scalars(select(models.c.last_version)).one()


def count_up(conn: Connection) -> int:
    """Read, then write what follows from it."""
    number = last(conn) + 1
    conn.execute(update(models).values(last_version=number))
    return number


def one_model(conn: Connection) -> None:
    """Something to count with."""
    conn.execute(insert(models).values(name="m", workload="w", created_ns=1))


def end_other_sessions(server: PostgresServer, url: str) -> None:
    """As when the server is restarted or a network device forgets its connections."""
    name = url.rsplit("/", 1)[1]
    server.say(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")  # noqa: S608


def noted(subject: str) -> Callable[[Connection], None]:
    """A change."""
    return lambda conn: audit.record(conn, 1, "test", ("test.change", subject))


async def heard(changes: Changes, looks: int = 3) -> list[str]:
    """What a reader is told in so many looks."""
    return [row.subject for _ in range(looks) for row in await changes.look()]


def test_a_number_that_is_committed_late_is_not_passed_over(server: PostgresServer) -> None:
    """Another hub's smaller number is open: readers wait for it, whoever begins now is told it, and then go on."""
    url = server.database()

    async def scenario() -> None:
        slow, quick = PostgresStore(url), PostgresStore(url)
        await slow.open()
        await quick.open()
        await quick.write(noted("first"))
        drawn, go_on = threading.Event(), threading.Event()

        def late(conn: Connection) -> None:
            noted("late")(conn)
            drawn.set()
            go_on.wait(20)

        follower = Changes(quick, 0)
        assert await heard(follower) == ["first"]
        writing = asyncio.create_task(slow.write(late))
        assert await asyncio.to_thread(drawn.wait, 20)
        await quick.write(noted("early"))
        newcomer = Changes(quick, None)
        assert await heard(follower) == await heard(newcomer) == []
        go_on.set()
        await writing
        assert await heard(follower) == ["late", "early"]
        assert await heard(newcomer) == ["late"]
        await quick.write(noted("last"))
        assert await heard(follower) == await heard(newcomer) == ["last"]
        slow.close()
        quick.close()

    asyncio.run(scenario())


def test_connections_that_were_cut_are_replaced_and_nothing_is_done_twice(server: PostgresServer) -> None:
    """Cut while idle, and in the middle of a transaction."""
    url = server.database()

    async def scenario() -> None:
        store = PostgresStore(url)
        await store.open()
        await store.write(one_model)
        await store.read(lambda conn: None)
        end_other_sessions(server, url)
        assert await store.write(count_up) == 1
        runs = 0

        def cut_once(conn: Connection) -> int:
            nonlocal runs
            runs += 1
            if runs == 1:
                count_up(conn)
                end_other_sessions(server, url)
            return count_up(conn)

        assert await store.write(cut_once) == 2
        end_other_sessions(server, url)
        assert await store.read(last) == 2
        store.close()

    asyncio.run(scenario())


def test_a_call_that_is_disputed_again_and_again_gets_its_turn(server: PostgresServer) -> None:
    """Another session changes the same row between its reading and writing, every time it may."""
    url = server.database()

    async def scenario() -> None:
        store, rival = PostgresStore(url), PostgresStore(url)
        await store.open()
        await rival.open()
        await store.write(one_model)
        loop, runs, settled = asyncio.get_running_loop(), 0, []

        def disturbed(conn: Connection) -> int:
            nonlocal runs
            runs += 1
            seen = last(conn)
            attempt = asyncio.run_coroutine_threadsafe(rival.write(count_up), loop)
            settled.append(attempt)
            wait([attempt], 10 if runs <= MAX_DISPUTES else 0.5)  # the last time it waits for us: it is locked out
            conn.execute(update(models).values(last_version=seen + 1))
            return seen + 1

        assert await store.write(disturbed) == MAX_DISPUTES + 1
        assert runs == MAX_DISPUTES + 1
        await asyncio.gather(*map(asyncio.wrap_future, settled))
        assert await store.read(last) == MAX_DISPUTES + 2
        store.close()
        rival.close()

    asyncio.run(scenario())


def test_a_session_that_stops_inside_a_transaction_holds_nobody_up(server: PostgresServer) -> None:
    """As a paused hub: its locks go, and what it did in that transaction is undone."""
    url = server.database()

    async def scenario() -> None:
        store, paused = PostgresStore(url), PostgresStore(url, idle_limit_s=0.3)
        await store.open()
        await store.write(one_model)
        engine = paused._writing  # what its writing thread uses
        with engine.connect() as connection:
            count_up(connection)
            assert await asyncio.wait_for(store.write(count_up), 10) == 1
            with pytest.raises(Exception, match=r"terminating connection|closed the connection"):
                connection.commit()
        store.close()
        paused.close()

    asyncio.run(scenario())


def test_a_server_that_cannot_be_reached_is_named_without_the_password(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, server: PostgresServer
) -> None:
    """In the error, and in whatever is logged."""
    monkeypatch.setattr(postgres_store, "PATIENCE_S", 0.0)
    caplog.set_level(logging.DEBUG)
    for url in (
        f"postgresql://hub:{SECRET}@127.0.0.1:1/fleet",
        server.url("nowhere").replace("hub@", f"hub:{SECRET}@"),
    ):
        store = PostgresStore(url)
        with pytest.raises(StoreError, match=r"127\.0\.0\.1") as caught:
            asyncio.run(store.open())
        store.close()
        assert SECRET not in str(caught.value) + repr(store.__dict__["_url"]) + caplog.text


@pytest.mark.parametrize("url", ["mysql://hub:correct-horse@host/x", "postgresql//hub:correct-horse@host"])
def test_an_address_that_is_none_is_refused_without_repeating_it(url: str) -> None:
    """It may hold a password."""
    with pytest.raises(StoreError) as caught:
        parse(url)
    assert SECRET not in str(caught.value)


def test_two_hubs_that_start_at_once_migrate_once(server: PostgresServer) -> None:
    """One does it, the other one waits and finds it done."""
    url = server.database()

    async def scenario() -> None:
        stores = [PostgresStore(url) for _ in range(2)]
        await asyncio.gather(*(store.open() for store in stores))
        for store in stores:
            assert await store.read(lambda conn: list(conn.scalars(select(models.c.name)))) == []
            store.close()

    asyncio.run(scenario())


def test_a_hub_waits_for_a_server_that_comes_up_after_it() -> None:
    """As when a whole machine starts."""
    with postgres_server() as server:
        url = server.database()
        server.halt()

        async def scenario() -> None:
            store = PostgresStore(url)
            opening = asyncio.create_task(store.open())
            await asyncio.sleep(0)
            await asyncio.to_thread(server.start)
            await opening
            await store.write(one_model)
            store.close()

        asyncio.run(scenario())


def test_a_server_that_stays_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while the caller learns that nothing was changed; when it is back, everything goes on."""
    monkeypatch.setattr(postgres_store, "PATIENCE_S", 0.5)
    with postgres_server() as server:
        url = server.database()

        async def scenario() -> None:
            store = PostgresStore(url)
            await store.open()
            await store.write(one_model)
            server.halt()
            with pytest.raises(StoreError, match="gone"):
                await store.write(count_up)
            server.start()
            assert await store.write(count_up) == 1
            store.close()

        asyncio.run(scenario())
