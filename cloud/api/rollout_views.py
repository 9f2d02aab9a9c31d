"""Reads rollouts into the API's views, from their counters: however many devices there are, it costs the same."""

from typing import Any, Literal

from sqlalchemy import Connection, Row, func, select

from cloud.api.rollout_schemas import MembersView, MemberView, RolloutView, VerdictView, WaveView
from cloud.core.rollout import RolloutState
from cloud.core.rollout.members import Counts
from cloud.service.rollouts import counts_of_waves, rollout_row
from cloud.tables import members, rollouts


def rollout_views(conn: Connection) -> list[RolloutView]:
    """All rollouts, oldest first."""
    query = select(rollouts).order_by(rollouts.c.created_ns, rollouts.c.id)
    return [_rollout(conn, row) for row in conn.execute(query).all()]


def rollout_view(conn: Connection, rollout: str) -> RolloutView:
    """One rollout, with how its executions ended. Raises UnknownError."""
    row = rollout_row(conn, rollout)
    ended = (members.c.rollout == rollout) & members.c.outcome.is_not(None)
    query = select(members.c.outcome, func.count().label("number")).where(ended).group_by(members.c.outcome)
    outcomes = {one.outcome: one.number for one in conn.execute(query)}
    return _rollout(conn, row).model_copy(update={"outcomes": outcomes})


def member_views(conn: Connection, rollout: str, after: str, limit: int) -> MembersView:
    """Members with names behind `after`. Raises UnknownError."""
    rollout_row(conn, rollout)
    here = (members.c.rollout == rollout) & (members.c.device > after)
    rows = conn.execute(select(members).where(here).order_by(members.c.device).limit(limit + 1)).all()
    found = [MemberView.model_validate(row._mapping) for row in rows[:limit]]
    return MembersView(members=found, after=found[-1].device if len(rows) > limit else None)


def _rollout(conn: Connection, row: Row[Any]) -> RolloutView:
    counts = counts_of_waves(conn, row)
    totals = {name: sum(getattr(one, name) for one in counts) for name in ("planned", "committed", "failed")}
    waves = [_wave(index, one, row) for index, one in enumerate(counts)]
    return RolloutView.model_validate({**row._mapping, **totals, "waves": waves})


def _wave(index: int, counts: Counts, row: Row[Any]) -> WaveView:
    return WaveView(
        index=index,
        state=_wave_state(index, row),
        planned=counts.planned,
        waiting=counts.waiting,
        assigned=counts.planned - counts.waiting,
        committed=counts.committed,
        failed=counts.failed,
        acknowledged=counts.acknowledged,
        gates=[VerdictView.model_validate(one) for one in row.evidence.get(str(index), [])],
    )


def _wave_state(index: int, row: Row[Any]) -> Literal["waiting", "open", "passed", "halted"]:
    if index > row.wave:
        return "waiting"
    if index < row.wave or row.state in (RolloutState.SUCCEEDED, RolloutState.WAITING):
        return "passed"
    return "halted" if row.state in (RolloutState.HALTED, RolloutState.ABORTED) else "open"
