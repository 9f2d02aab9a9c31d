"""Takes the figures that a rollout's gates ask for from what devices count: once per device and fact, when there is
enough of it, so that evidence is never revised. The new version's on devices that committed; the one before on the
same devices; and, for gates against a control group, the present one on devices that still wait.

Devices are looked at in turn, a batch in each tick: those that never show all that is asked for hold up nobody.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, select, update

from cloud.core.gates.catalogue import ACCURACY, CONFIDENCE, LATENCY
from cloud.core.gates.judge import rules
from cloud.core.gates.language import Against
from cloud.core.rollout import Plan
from cloud.core.rollout.members import Status
from cloud.service.rollouts import ledger
from cloud.tables import members, rollouts, slots, stats
from wire.histogram import merge, quantile
from wire.messages import Outcome

AT_ONCE = 500
"""Devices that one tick measures at most."""
MIN_PREDICTIONS = 30
MIN_FEEDBACK = 30

_MEASURED = {LATENCY, ACCURACY, CONFIDENCE}

Which = tuple[str, str, int]
"""A device, and a version by model and number."""


def measure(conn: Connection, rollout: Row[Any], plan: Plan, now_ns: int) -> None:
    """Enter the figures that have become available on the devices whose turn it is."""
    asked = rules(plan.gates)
    wanted = {rule.comparison.fact.name for rule in asked} & _MEASURED
    if not wanted:
        return
    control = any(rule.comparison.against is Against.CONTROL for rule in asked)
    rows = _turn(conn, rollout, control=control)
    figures = _figures(conn, [which for row in rows for which in _asked_of(rollout, row).values()], wanted)
    changes = [(row, found) for row in rows if (found := _found(rollout, row, figures, wanted))]
    ledger.change(conn, rollout, changes, now_ns)


def _turn(conn: Connection, rollout: Row[Any], *, control: bool) -> list[Row[Any]]:
    """The next devices, by name, that have not shown everything yet; after the last one the first again."""
    committed = select(members).where(members.c.outcome == Outcome.SUCCEEDED)
    found = list(conn.execute(_in_turn(committed, rollout)).all())
    if control:
        found += conn.execute(_in_turn(_waiting(rollout), rollout)).all()
    rows = sorted(found, key=lambda row: row.device)[:AT_ONCE]
    measured_to = rows[-1].device if len(rows) == AT_ONCE else ""
    if measured_to != rollout.measured_to:
        conn.execute(update(rollouts).where(rollouts.c.id == rollout.id).values(measured_to=measured_to))
    return rows


def _in_turn(query: Select[Any], rollout: Row[Any]) -> Select[Any]:
    here = (members.c.rollout == rollout.id) & ~members.c.measured & (members.c.device > rollout.measured_to)
    return query.where(here).order_by(members.c.device).limit(AT_ONCE)


def _waiting(rollout: Row[Any]) -> Select[Any]:
    """Those of later waves, and what they run."""
    runs = and_(slots.c.device == members.c.device, slots.c.slot == rollout.slot, slots.c.version.is_not(None))
    query = select(members, slots.c.model.label("runs"), slots.c.version.label("runs_version")).join(slots, runs)
    return query.where(members.c.status == Status.WAITING, members.c.wave > rollout.wave)


def _asked_of(rollout: Row[Any], row: Row[Any]) -> dict[str, Which]:
    """What is to be looked for on a member's device, by the kind of figure."""
    if row.status == Status.WAITING:
        return {"control": (row.device, row.runs, row.runs_version)}
    asked = {"now": (row.device, rollout.model, rollout.version)}
    if row.previous:
        asked["before"] = (row.device, row.previous["model"], row.previous["version"])
    return asked


def _found(
    rollout: Row[Any], row: Row[Any], figures: Mapping[Which, dict[str, float]], wanted: set[str]
) -> dict[str, Any]:
    """What changes of a member; what is known stays as it is."""
    asked = _asked_of(rollout, row)
    new = {kind: {**figures[which], **row.figures.get(kind, {})} for kind, which in asked.items()}
    done, merged = all(wanted <= set(one) for one in new.values()), {**row.figures, **new}
    return {} if not done and merged == row.figures else {"figures": merged, "measured": done}


def _figures(conn: Connection, asked: Sequence[Which], wanted: set[str]) -> dict[Which, dict[str, float]]:
    """By the catalogue's names, over all variants of a version, as far as there is enough to say."""
    counted: dict[Which, list[Row[Any]]] = defaultdict(list)
    here = (
        column.in_(sorted({which[place] for which in asked}))
        for place, column in enumerate((stats.c.device, stats.c.model, stats.c.version))
    )
    for row in conn.execute(select(stats).where(*here)):
        counted[row.device, row.model, row.version].append(row)
    return {which: _shown(counted[which], wanted) for which in asked}


def _shown(rows: Iterable[Row[Any]], wanted: set[str]) -> dict[str, float]:
    rows = list(rows)
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
