"""How an execution ended, entered into its rollout: for good, or to be tried again after a while.

Executions under way in a rollout that goes no further are not repeated; they only end.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Row, update

from cloud.core.gates.catalogue import MEMORY
from cloud.core.rollout import RolloutState
from cloud.core.rollout.members import Status
from cloud.core.rollout.retry import next_try_ns
from cloud.core.rollout.states import ADVANCING
from cloud.service import restraints, suitability
from cloud.service.rollouts import ledger
from cloud.service.rollouts.plans import plan_of
from cloud.tables import rollouts
from wire.messages import Outcome, Reported, SlotReport

SILENT = "nothing was heard of it within its total time"


def settle(conn: Connection, rollout: Row[Any], ended: Iterable[ledger.Change], now_ns: int) -> None:
    """Enter outcomes: members with at least {"outcome": ...}, and what else was reported."""
    plan, used, known = plan_of(rollout), rollout.retries, list(ended)
    goes_on = RolloutState(rollout.state) in ADVANCING | {RolloutState.PAUSED}
    may_repeat = goes_on and plan.retry.attempts > 1
    kept = restraints.kept(conn, rollout, [row.device for row, _ in known]) if may_repeat else frozenset[str]()
    changes = []
    for row, values in known:
        outcome = Outcome(values["outcome"])
        again = next_try_ns(plan, outcome, row.attempt, used, now_ns) if goes_on else None
        if again is None or row.device in kept:
            changes.append((row, {**values, "status": Status.ENDED, "finished_ns": now_ns}))
        else:
            used += 1
            changes.append((row, _again(row, values, again)))
    ledger.change(conn, rollout, changes, now_ns)
    if used != rollout.retries:
        conn.execute(update(rollouts).where(rollouts.c.id == rollout.id).values(retries=used))


def expire(conn: Connection, rollout: Row[Any], names: Iterable[str], now_ns: int) -> None:
    """Executions of which nothing was heard in time."""
    rows = ledger.rows_of(conn, rollout, names)
    told = suitability.reports(conn, [row.device for row in rows])
    ended = [(row, {"outcome": Outcome.TIMED_OUT, "reason": _silence(told.get(row.device))}) for row in rows]
    settle(conn, rollout, ended, now_ns)


def _silence(reported: Reported | None) -> str:
    """A device that refuses its assignment is silent about the execution, and not about why."""
    if reported is None or not reported.refused:
        return SILENT
    return f"{SILENT}; it refuses: {reported.refused}"[: suitability.MAX_REASON]


def figures_of(slot: SlotReport) -> dict[str, float]:
    """What the report itself says that gates may ask for."""
    resident = slot.figures.canary_rss_bytes
    return {MEMORY: resident / 1e6} if resident else {}


def _again(row: Row[Any], values: Mapping[str, Any], due_ns: int) -> dict[str, Any]:
    """Back to waiting. The execution's id stays until the next one: a late success still counts."""
    reason = f"attempt {row.attempt}: {values['outcome']}: {values.get('reason', '')}"[:500]
    waiting = {"status": Status.WAITING, "outcome": None, "assigned_ns": None, "attempt": row.attempt + 1}
    return {**waiting, "due_ns": due_ns, "reason": reason}
