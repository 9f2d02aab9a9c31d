# ruff: noqa: S608 - every part of these statements is a constant of ours
"""Watches the hub's database: after every transaction, what it touched is held against the laws and against a recount.

A rollout's counts must be what counting its members gives; whoever is assigned must be assigned while no gate of an
open wave is broken, and within the rollout's limit of devices under way.
"""

from collections.abc import Callable

from sqlalchemy import Connection, Row, bindparam, event, func, select

from cloud.core.gates.judge import rules
from cloud.core.rollout import machine
from cloud.core.rollout.machine import Facts
from cloud.core.rollout.members import Counts, Status, count, empty
from cloud.core.rollout.states import RolloutState
from cloud.service.rollouts import ledger
from cloud.service.rollouts.plans import plan_of, rollout_row
from cloud.tables import members
from simulator.device import BrokenPromiseError
from simulator.fakes.store import MemoryStore
from simulator.invariants.laws import ASSIGNED, BROKEN, TOUCHED, leftovers, statements

_NOTED = (
    f"SELECT 0, text FROM {BROKEN} UNION ALL SELECT 1, rollout FROM {TOUCHED} "
    f"UNION ALL SELECT 2, rollout FROM {ASSIGNED}"
)
_MEMBERS = select(members).where(members.c.rollout == bindparam("rollout"))


class HubWatch:
    """Calls `fail` with the first promise that a transaction has broken. `checked` counts the transactions."""

    def __init__(self, store: MemoryStore, fail: Callable[[BaseException], None]) -> None:
        self.checked = 0
        self._fail = fail
        self._engine = store.engine
        self._begin()

    def close(self) -> None:
        """Look no more, and leave nothing in the database's connection."""
        event.remove(self._engine, "commit", self._look)
        with self._engine.connect() as connection:
            for statement in leftovers():
                connection.exec_driver_sql(statement)

    def _begin(self) -> None:
        with self._engine.connect() as connection:
            for statement in statements():
                connection.exec_driver_sql(statement)
        event.listen(self._engine, "commit", self._look)

    def _look(self, conn: Connection) -> None:
        """Just before the commit, so that everything is seen as it will be."""
        self.checked += 1
        rows = conn.connection.cursor().execute(_NOTED).fetchall()
        if not rows:
            return
        for table in (BROKEN, TOUCHED, ASSIGNED):
            conn.exec_driver_sql(f"DELETE FROM {table}")
        problems = [text for kind, text in rows if kind == 0]
        for name in [name for kind, name in rows if kind == 1]:
            problems += rollout_problems(conn, name, assigning=(2, name) in rows)
        if problems:
            self._fail(BrokenPromiseError("; ".join(problems)))


def rollout_problems(conn: Connection, name: str, *, assigning: bool) -> list[str]:
    """What is wrong with a rollout; `assigning`: it has just told a device to install."""
    row = rollout_row(conn, name)
    plan, stored = plan_of(row), ledger.counts_of_waves(conn, row)
    if len(stored) != len(plan.waves):
        return []  # nobody has looked after it since there are counts
    counted = _recounted(conn, row)
    problems = [] if counted == stored else [f"the counts of rollout {name} are {stored}, its members give {counted}"]
    if assigning:
        facts = Facts(RolloutState(row.state), row.wave, counted, (0,) * len(counted))
        reason = machine.breach(plan, facts)
        if reason:
            problems.append(f"rollout {name} assigns in spite of its gate: {reason}")
        under_way = sum(wave.in_flight for wave in counted)
        if plan.max_in_flight is not None and under_way > plan.max_in_flight:
            problems.append(f"rollout {name} has {under_way} devices under way at once, {plan.max_in_flight} may be")
    return problems


def sweep(conn: Connection) -> list[str]:
    """Every rollout, from the beginning."""
    names = conn.execute(select(members.c.rollout).distinct().order_by(members.c.rollout)).scalars().all()
    return [problem for name in names for problem in rollout_problems(conn, name, assigning=False)]


def under_way(conn: Connection) -> int:
    """Executions that have not ended."""
    here = members.c.status == Status.IN_FLIGHT
    return conn.execute(select(func.count()).select_from(members).where(here)).scalar_one()


def _recounted(conn: Connection, row: Row[tuple[object, ...]]) -> tuple[Counts, ...]:
    asked = rules(plan_of(row).gates)
    rows = conn.execute(_MEMBERS, {"rollout": row.id}).all()
    counted = count((ledger.member_of(one) for one in rows), asked)
    return tuple(empty(asked) + counted.get(wave, Counts()) for wave in range(len(row.plan["waves"])))
