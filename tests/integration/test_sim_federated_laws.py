"""What no transaction of the hub may do to a federated run is noticed by the simulated database itself."""

from collections.abc import Iterable, Iterator

import pytest
from sqlalchemy import Connection, insert, update

from cloud.tables import devices, federated_rounds, federated_runs
from simulator.fakes.store import MemoryStore
from simulator.invariants.laws import BROKEN, leftovers, statements

RUN = {"id": "r", "model": "m", "version": 1, "state": "running", "request": {}, "devices": {"a": {}, "b": {}}}
ROUND = {"run": "r", "round": 1, "failures": [], "bytes_down": 0, "bytes_up": 0, "seconds": 1.0}


def carry_out(store: MemoryStore, wanted: Iterable[str]) -> None:
    """On the connection of the database, outside of its transactions."""
    with store.engine.connect() as connection:
        for statement in wanted:
            connection.exec_driver_sql(statement)


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    """A hub's database under the laws, with one run of two devices."""
    store = MemoryStore()
    carry_out(store, statements())
    store.now(lambda conn: conn.execute(insert(federated_runs).values(**RUN, created_ns=1)))
    learners = [{"name": name, "labels": {}, "federated": True, "claimed_ns": 1} for name in ("a", "b")]
    store.now(lambda conn: conn.execute(insert(devices), learners))
    yield store
    carry_out(store, leftovers())
    store.close()


def broken(store: MemoryStore) -> list[str]:
    """Laws that were broken."""
    return store.now(lambda conn: list(conn.exec_driver_sql(f"SELECT text FROM {BROKEN}").scalars()))  # noqa: S608


def become(store: MemoryStore, **values: object) -> None:
    """Change the run."""
    store.now(lambda conn: conn.execute(update(federated_runs).values(**values)))


def test_a_run_that_goes_as_it_should_breaks_no_law(store: MemoryStore) -> None:
    """Both devices count in a round; then it fails, and says why."""

    def told(conn: Connection) -> None:
        conn.execute(insert(federated_rounds).values(**ROUND, clients=2))

    store.now(told)
    become(store, state="deriving")
    become(store, state="failed", reason="the disk was full")
    assert broken(store) == []


def test_a_round_with_more_answers_than_devices_is_noticed(store: MemoryStore) -> None:
    """Somebody counted twice."""
    store.now(lambda conn: conn.execute(insert(federated_rounds).values(**ROUND, clients=3)))
    assert broken(store) == ["a federated round counts a device twice: r 1"]


def test_a_run_ends_once_and_with_a_reason(store: MemoryStore) -> None:
    """Neither back to work after its end, nor failed for nothing."""
    become(store, state="failed")
    become(store, state="running")
    assert broken(store) == [
        "a federated run did not succeed and does not say why: r",
        "a federated run that had ended goes on: r",
    ]
