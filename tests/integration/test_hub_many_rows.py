"""Many rows by one statement: the same comes of it on SQLite, row by row, as on PostgreSQL, by arrays."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, null, select, true
from sqlalchemy.exc import DBAPIError

from bench.postgres_server import PostgresServer, installed, postgres_server
from cloud.adapters import postgres_store, sql_store
from cloud.many import among, entering, updating
from cloud.tables import devices, metadata, slots
from tests.servers.postgres import NEEDS_POSTGRES

NAMES = [f"d{number}" for number in range(3)]
CHANGE = updating(
    devices, ("name",), ("labels", "sessions", "reported", "boot", "seen_ns", "agent"), online=true(), gone_ns=null()
)
ENTER = entering(slots, ("device", "slot"), [one.name for one in slots.c if one.name not in ("device", "slot")])
EMPTY_SLOT = {one.name: None for one in slots.c} | {"slot": "main", "execution": "", "reason": ""}


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer | None]:
    """A PostgreSQL server, where it is installed."""
    with postgres_server() if installed() else contextlib.nullcontext() as one:
        yield one


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=NEEDS_POSTGRES)])
def conn(request: pytest.FixtureRequest, tmp_path: Path, server: PostgresServer | None) -> Iterator[Connection]:
    """A database with three devices."""
    if request.param == "postgresql" and server is not None:
        engine = postgres_store.make_engine(postgres_store.parse(server.database()), 10.0)
    else:
        engine = sql_store.make_engine(tmp_path / "hub.sqlite")
    metadata.create_all(engine)
    with engine.connect() as one:
        rows = [{"name": name, "labels": {}, "federated": False, "claimed_ns": 1, "gone_ns": 5} for name in NAMES]
        one.execute(insert(devices), rows)
        yield one
    engine.dispose()


def told(conn: Connection) -> dict[str, Any]:
    """What changes by CHANGE, by device."""
    query = select(devices).order_by(devices.c.name)
    return {
        row.name: (row.labels, row.sessions, row.reported, row.boot, row.seen_ns, row.agent)
        for row in conn.execute(query)
    }


class TestManyRows:
    """Both databases."""

    def test_a_list_is_a_value_and_not_another_dimension(self, conn: Connection) -> None:
        """Rows of lists of lists would make a matrix, which PostgreSQL takes apart down to its numbers."""
        lists = [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [0, 0, 0]]]
        relabel = updating(devices, ("name",), ("labels",))
        relabel.run(conn, [{"name": name, "labels": one} for name, one in zip(NAMES, lists, strict=False)])
        query = select(devices.c.labels).where(devices.c.name.in_(NAMES[:2])).order_by(devices.c.name)
        assert conn.execute(query).scalars().all() == lists

    def test_every_row_gets_its_own_values_and_all_get_the_same_ones(self, conn: Connection) -> None:
        """Texts, documents, bytes, numbers beyond 32 bits, and nothing; whoever is not meant stays as it is."""
        first = {"labels": {"a": ["ü", 1]}, "sessions": {"x": 1}, "reported": b"\0\xff", "boot": 1, "seen_ns": 1 << 60}
        second: dict[str, Any] = {"labels": {}, "sessions": None, "reported": None, "boot": 2, "seen_ns": None}
        CHANGE.run(conn, [{"name": "d0", **first, "agent": "{1,2}"}, {"name": "d2", **second, "agent": ""}])
        assert told(conn) == {
            "d0": ({"a": ["ü", 1]}, {"x": 1}, b"\0\xff", 1, 1 << 60, "{1,2}"),
            "d1": ({}, None, None, 0, None, ""),
            "d2": ({}, None, None, 2, None, ""),
        }
        flags = conn.execute(select(devices.c.online, devices.c.gone_ns).order_by(devices.c.name)).all()
        assert [tuple(row) for row in flags] == [(True, None), (False, 5), (True, None)]

    def test_rows_are_entered_or_take_the_place_of_those_with_their_keys(self, conn: Connection) -> None:
        """Twice, the second time with other values for one that was there."""
        for phases in (("idle", "trial"), ("committed", "committed", "idle")):
            ENTER.run(
                conn,
                [{**EMPTY_SLOT, "device": name, "phase": phase} for name, phase in zip(NAMES, phases, strict=False)],
            )
        rows = conn.execute(select(slots.c.device, slots.c.phase).order_by(slots.c.device)).all()
        assert [tuple(row) for row in rows] == [("d0", "committed"), ("d1", "committed"), ("d2", "idle")]

    def test_no_rows_are_no_statement(self, conn: Connection) -> None:
        """Nothing is asked of the database."""
        CHANGE.run(conn, [])
        assert told(conn)["d0"] == ({}, None, None, 0, None, "")

    def test_what_is_too_long_is_not_cut_off(self, conn: Connection) -> None:
        """PostgreSQL refuses it, SQLite keeps it whole."""
        long: dict[str, Any] = {
            "name": "d0",
            "labels": {},
            "sessions": None,
            "reported": None,
            "boot": 0,
            "seen_ns": 0,
            "agent": "a" * 65,
        }
        if conn.dialect.name == "postgresql":
            with pytest.raises(DBAPIError, match="too long"):
                CHANGE.run(conn, [long])
        else:
            CHANGE.run(conn, [long])
            assert told(conn)["d0"][-1] == "a" * 65

    def test_names_are_any_number(self, conn: Connection) -> None:
        """More than a statement may have parameters; and none."""
        query = select(devices.c.name).where(among(devices.c.name, "names"), ~among(devices.c.agent, "others"))
        asked = ["d0", "d2", *(f'"{number}' for number in range(70_000))]
        found = conn.execute(query.order_by(devices.c.name), {"names": asked, "others": ["x"]}).scalars().all()
        assert found == ["d0", "d2"]
        assert conn.execute(query, {"names": [], "others": []}).all() == []
