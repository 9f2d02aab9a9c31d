"""Rollouts wave by wave, with the newest evidence of the gates of the wave that is open."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal

from sqlalchemy import Connection, Row, select

from cloud.core.rollout import RolloutState
from cloud.core.rollout.states import ADVANCING
from cloud.service.overview.shapes import GateView, RolloutView, WaveView
from cloud.tables import members, rollouts
from wire.messages import Outcome

NEWEST = 4

WaveState = Literal["waiting", "running", "passed", "halted"]


def read_rollouts(conn: Connection, model: str) -> tuple[RolloutView, ...]:
    """The newest rollouts of `model`, oldest first."""
    ordered = select(rollouts).where(rollouts.c.model == model).order_by(rollouts.c.created_ns.desc())
    return tuple(reversed([_rollout(conn, row) for row in conn.execute(ordered.limit(NEWEST))]))


def _rollout(conn: Connection, row: Row[Any]) -> RolloutView:
    rows = conn.execute(select(members.c.wave, members.c.outcome).where(members.c.rollout == row.id))
    counts = Counter((member.wave, _kind(member.outcome)) for member in rows)
    return RolloutView(
        id=row.id,
        model=row.model,
        version=row.version,
        state=row.state,
        reason=row.reason,
        started_ns=row.created_ns,
        waves=tuple(_wave(index, row, counts) for index in range(len(row.plan["waves"]))),
        gates=tuple(_gates(row.evidence.get(str(row.wave), ()), row.state)),
    )


def _kind(outcome: str | None) -> str:
    if outcome is None:
        return "pending"
    if outcome == Outcome.SUCCEEDED:
        return "committed"
    return "cancelled" if outcome == Outcome.CANCELLED else "failed"


def _wave(index: int, row: Row[Any], counts: Counter[tuple[int, str]]) -> WaveView:
    committed, failed = counts[index, "committed"], counts[index, "failed"]
    planned = committed + failed + counts[index, "pending"]
    state = _wave_state(index, row.wave, row.state)
    return WaveView(number=index + 1, planned=planned, committed=committed, failed=failed, state=state)


def _wave_state(index: int, open_wave: int, state: str) -> WaveState:
    if index > open_wave:
        return "waiting"
    if index < open_wave or state == RolloutState.SUCCEEDED:
        return "passed"
    return "running" if state in ADVANCING else "halted"


def _gates(verdicts: Iterable[dict[str, Any]], state: str) -> Iterable[GateView]:
    for verdict in verdicts:
        undecided = not verdict["passed"] and state in ADVANCING
        yield GateView(
            name=verdict["gate"],
            passed=None if undecided else verdict["passed"],
            evidence=verdict["text"],
        )
