"""Reads rollouts into the API's views, from their counters: however many devices there are, it costs the same."""

from typing import Any, Literal

from sqlalchemy import Connection, Row, func, select

from cloud.api.etags import etag
from cloud.api.paging import Slice, Window
from cloud.api.reaching import within
from cloud.api.schemas.rollouts import MemberView, RolloutView, VerdictView, WaveView
from cloud.core.reach import EVERYTHING, Reach
from cloud.core.rollout import RolloutState
from cloud.core.rollout.members import Counts
from cloud.errors import UnknownError
from cloud.service.rollouts import counts_of_waves, rollout_row
from cloud.tables import members, rollouts


def rollout_views(conn: Connection, window: Window, reach: Reach = EVERYTHING) -> Slice[RolloutView]:
    """Rollouts, oldest first."""
    query = select(rollouts).where(within(reach, model=rollouts.c.model, labels=rollouts.c.selector))
    return window.views(conn, query, (rollouts.c.created_ns, rollouts.c.id), lambda row: _rollout(conn, row))


def rollout_view(conn: Connection, rollout: str, reach: Reach = EVERYTHING) -> RolloutView:
    """One rollout, with how its executions ended. Raises UnknownError."""
    row = _reached(conn, rollout, reach)
    ended = (members.c.rollout == rollout) & members.c.outcome.is_not(None)
    query = select(members.c.outcome, func.count().label("number")).where(ended).group_by(members.c.outcome)
    outcomes = {one.outcome: one.number for one in conn.execute(query)}
    return _rollout(conn, row).model_copy(update={"outcomes": outcomes})


def rollout_tag(view: RolloutView) -> str:
    """Its ETag: what people and the hub decided about it."""
    return etag(view.id, view.state, view.wave, view.reason)


def member_views(conn: Connection, rollout: str, window: Window, reach: Reach = EVERYTHING) -> Slice[MemberView]:
    """Members by name. Raises UnknownError."""
    _reached(conn, rollout, reach)
    query = select(members).where(members.c.rollout == rollout)
    return window.views(conn, query, (members.c.device,), lambda row: MemberView.model_validate(row._mapping))


def _reached(conn: Connection, rollout: str, reach: Reach) -> Row[Any]:
    row = rollout_row(conn, rollout)
    if not (reach.covers_model(row.model) and reach.covers_labels(row.selector)):
        raise UnknownError(f"there is no rollout {rollout!r}")
    return row


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
        accepted=counts.accepted,
        gates=[VerdictView.model_validate(one) for one in row.evidence.get(str(index), [])],
    )


def _wave_state(index: int, row: Row[Any]) -> Literal["waiting", "open", "passed", "halted"]:
    if index > row.wave:
        return "waiting"
    if index < row.wave or row.state in (RolloutState.SUCCEEDED, RolloutState.WAITING):
        return "passed"
    return "halted" if row.state in (RolloutState.HALTED, RolloutState.ABORTED) else "open"
