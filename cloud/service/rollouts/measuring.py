"""Takes the figures that a rollout's gates ask for from what devices count: once per device and fact, when there is
enough of it, so that evidence is never revised. The new version's on devices that committed; the one before on the
same devices; and, for gates against a control group, the present one on devices that still wait.
"""

import math
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, and_, select

from cloud.core.gates.catalogue import ACCURACY, CONFIDENCE, LATENCY
from cloud.core.gates.judge import rules
from cloud.core.gates.language import Against
from cloud.core.rollout import Plan
from cloud.core.rollout.members import Status
from cloud.service.rollouts import ledger
from cloud.tables import members, slots, stats
from wire.histogram import merge, quantile
from wire.messages import Outcome

AT_ONCE = 2_000
"""Devices that one tick measures at most."""
MIN_PREDICTIONS = 30
MIN_FEEDBACK = 30

_MEASURED = {LATENCY, ACCURACY, CONFIDENCE}


def measure(conn: Connection, rollout: Row[Any], plan: Plan, now_ns: int) -> None:
    """Enter the figures that have become available."""
    asked = rules(plan.gates)
    wanted = {rule.comparison.fact.name for rule in asked} & _MEASURED
    if not wanted:
        return
    changes = [
        (row, found) for row in _committed(conn, rollout) if (found := _of_committed(conn, rollout, row, wanted))
    ]
    if any(rule.comparison.against is Against.CONTROL for rule in asked):
        changes += [
            (row, found) for row in _waiting(conn, rollout) if (found := _of_waiting(conn, rollout, row, wanted))
        ]
    ledger.change(conn, rollout, changes, now_ns)


def _committed(conn: Connection, rollout: Row[Any]) -> list[Row[Any]]:
    """Those that have counted something of the new version."""
    counted = and_(
        stats.c.device == members.c.device, stats.c.model == rollout.model, stats.c.version == rollout.version
    )
    here = (members.c.rollout == rollout.id) & (members.c.outcome == Outcome.SUCCEEDED) & ~members.c.measured
    enough = select(stats.c.device).where(counted, stats.c.predictions >= MIN_PREDICTIONS).exists()
    return list(conn.execute(select(members).where(here, enough).limit(AT_ONCE)).all())


def _waiting(conn: Connection, rollout: Row[Any]) -> list[Row[Any]]:
    """Those of later waves that have counted something of what they run."""
    runs = and_(slots.c.device == members.c.device, slots.c.slot == rollout.slot)
    counted = and_(stats.c.device == slots.c.device, stats.c.model == slots.c.model, stats.c.version == slots.c.version)
    later = (members.c.rollout == rollout.id) & (members.c.status == Status.WAITING) & (members.c.wave > rollout.wave)
    enough = select(stats.c.device).join(slots, counted).where(runs, stats.c.predictions >= MIN_PREDICTIONS).exists()
    return list(conn.execute(select(members).where(later, ~members.c.measured, enough).limit(AT_ONCE)).all())


def _of_committed(conn: Connection, rollout: Row[Any], row: Row[Any], wanted: set[str]) -> dict[str, Any]:
    now = _more(conn, row, "now", (rollout.model, rollout.version), wanted)
    ran = row.previous and (row.previous["model"], row.previous["version"])
    before = _more(conn, row, "before", ran, wanted) if ran else {}
    return _changed(row, {"now": now, "before": before}, done=wanted <= set(now) and (not ran or wanted <= set(before)))


def _of_waiting(conn: Connection, rollout: Row[Any], row: Row[Any], wanted: set[str]) -> dict[str, Any]:
    here = (slots.c.device == row.device) & (slots.c.slot == rollout.slot)
    runs = conn.execute(select(slots.c.model, slots.c.version).where(here)).one()
    control = _more(conn, row, "control", (runs.model, runs.version), wanted)
    return _changed(row, {"control": control}, done=wanted <= set(control))


def _more(conn: Connection, row: Row[Any], kind: str, version: tuple[str, int], wanted: set[str]) -> dict[str, float]:
    """What is known stays as it is."""
    return {**_figures(conn, row.device, *version, wanted), **row.figures.get(kind, {})}


def _changed(row: Row[Any], figures: Mapping[str, dict[str, float]], *, done: bool) -> dict[str, Any]:
    merged = {**row.figures, **figures}
    return {} if not done and merged == row.figures else {"figures": merged, "measured": done}


def _figures(conn: Connection, device: str, model: str, version: int, wanted: set[str]) -> dict[str, float]:
    """By the catalogue's names, over all variants of a version, as far as there is enough to say."""
    here = (stats.c.device == device) & (stats.c.model == model) & (stats.c.version == version)
    rows = conn.execute(select(stats).where(here)).all()
    predictions, feedback = sum(row.predictions for row in rows), sum(row.feedback for row in rows)
    found: dict[str, float] = {}
    if predictions >= MIN_PREDICTIONS:
        found[CONFIDENCE] = sum(row.confidence_sum for row in rows) / predictions
        found[LATENCY] = quantile(merge(*(_histogram(row.latency_us) for row in rows)), 0.5) / 1000
    if feedback >= MIN_FEEDBACK:
        found[ACCURACY] = sum(row.correct for row in rows) / feedback
    return {name: value for name, value in found.items() if name in wanted and math.isfinite(value)}


def _histogram(stored: Mapping[str, int]) -> dict[int, int]:
    return {int(bucket): count for bucket, count in stored.items()}
