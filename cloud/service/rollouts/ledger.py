"""The only way in which a member changes: together with the counts of its wave.

What the member added before is taken from the counts, what it adds afterwards is put there, in the same transaction. So
no tick ever counts the fleet; `recount` does, for rollouts from before there were counts, and as the oracle of tests.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, select

from cloud.core.gates.evidence import Sample
from cloud.core.gates.judge import rules
from cloud.core.rollout.members import NUMBERS, Counts, Member, Status, count, empty
from cloud.many import Many, among, updating
from cloud.service.rollouts.plans import plan_of
from cloud.tables import members, rollout_waves
from wire.messages import Outcome

Change = tuple[Row[Any], Mapping[str, Any]]
"""A member's row, and the columns that change."""


_OF_DEVICES = (
    select(members)
    .where(members.c.rollout == bindparam("rollout"), among(members.c.device, "names"))
    .order_by(members.c.device)
)
_WAVES = select(rollout_waves).where(rollout_waves.c.rollout == bindparam("rollout")).order_by(rollout_waves.c.wave)
_COUNTED = (*NUMBERS, "samples", "controls")
_COUNT = updating(rollout_waves, ("rollout", "wave"), _COUNTED)
_COUNT_ENDED = updating(rollout_waves, ("rollout", "wave"), (*_COUNTED, "ended_ns"))
_UNCHANGED: Mapping[str, Any] = {}


def member_of(row: Row[Any], changes: Mapping[str, Any] = _UNCHANGED) -> Member:
    """The facts in a member's row, as they are or after `changes`."""

    def now(column: str) -> Any:
        return changes[column] if column in changes else getattr(row, column)

    figures, outcome = now("figures"), now("outcome")
    return Member(
        device=row.device,
        wave=row.wave,
        place=row.place,
        group=row.label_group,
        status=Status(now("status")),
        due_ns=now("due_ns"),
        attempt=now("attempt"),
        outcome=None if outcome is None else Outcome(outcome),
        acknowledged=now("acknowledged"),
        golden_matched=now("golden_matched"),
        golden_total=now("golden_total"),
        now=figures.get("now", {}),
        before=figures.get("before", {}),
        control=figures.get("control", {}),
    )


def rows_of(conn: Connection, rollout: Row[Any], names: Iterable[str]) -> Sequence[Row[Any]]:
    """The rows of these of its members, by name."""
    return conn.execute(_OF_DEVICES, {"rollout": rollout.id, "names": sorted(names)}).all()


def enter(conn: Connection, rollout: Row[Any], newcomers: Sequence[Mapping[str, Any]]) -> None:
    """Members that join, as rows: device, wave, place, label_group."""
    if not newcomers:
        return
    conn.execute(insert(members), [{"rollout": rollout.id, **one} for one in newcomers])
    asked = rules(plan_of(rollout).gates)
    _add(conn, rollout, count((Member(one["device"], one["wave"]) for one in newcomers), asked), ended_ns=None)


def leave(conn: Connection, rollout: Row[Any], gone: Sequence[Row[Any]]) -> None:
    """Members that are none any more."""
    if not gone:
        return
    asked = rules(plan_of(rollout).gates)
    taken = {wave: one * -1 for wave, one in count((member_of(row) for row in gone), asked).items()}
    names = [row.device for row in gone]
    conn.execute(delete(members).where(members.c.rollout == rollout.id, members.c.device.in_(names)))
    _add(conn, rollout, taken, ended_ns=None)


def change(conn: Connection, rollout: Row[Any], changes: Sequence[Change], now_ns: int) -> None:
    """Change members and counts."""
    asked = rules(plan_of(rollout).gates)
    before = [member_of(row) for row, _ in changes]
    after = [member_of(row, values) for row, values in changes]
    ended = any(
        one.status is Status.ENDED and was.status is not Status.ENDED for was, one in zip(before, after, strict=True)
    )
    columns: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for row, values in changes:
        columns[tuple(sorted(values))].append({"rollout": rollout.id, "device": row.device, **values})
    for names, rows in columns.items():
        _changing(names).run(conn, rows)
    added, gone = count(after, asked), count(before, asked)
    difference = {wave: added[wave] - gone[wave] for wave in added}
    _add(conn, rollout, difference, ended_ns=now_ns if ended else None)


def waves_of(conn: Connection, rollout: Row[Any]) -> tuple[tuple[Counts, ...], tuple[int, ...]]:
    """The counts of every wave, and when the last execution of each ended."""
    waves = len(rollout.plan["waves"])
    rows = _waves(conn, rollout.id)
    if len(rows) != waves:
        recount(conn, rollout)
        rows = _waves(conn, rollout.id)
    return tuple(counts_in(row) for row in rows), tuple(row.ended_ns for row in rows)


def counts_of_waves(conn: Connection, rollout: Row[Any]) -> tuple[Counts, ...]:
    """As they are stored, for readers; empty for a rollout that nobody has looked after since there are counts."""
    return tuple(counts_in(row) for row in _waves(conn, rollout.id))


def recount(conn: Connection, rollout: Row[Any]) -> tuple[Counts, ...]:
    """Count every member, and store that."""
    asked = rules(plan_of(rollout).gates)
    rows = conn.execute(select(members).where(members.c.rollout == rollout.id)).all()
    counted = count((member_of(row) for row in rows), asked)
    counts = tuple(empty(asked) + counted.get(wave, Counts()) for wave in range(len(rollout.plan["waves"])))
    ended = {row.wave: row.finished_ns or 0 for row in sorted(rows, key=lambda row: row.finished_ns or 0)}
    conn.execute(delete(rollout_waves).where(rollout_waves.c.rollout == rollout.id))
    stored = [_row(rollout.id, wave, one) | {"ended_ns": ended.get(wave, 0)} for wave, one in enumerate(counts)]
    conn.execute(insert(rollout_waves), stored)
    return counts


def counts_in(row: Row[Any]) -> Counts:
    """The counts in a wave's row."""
    numbers = {name: getattr(row, name) for name in NUMBERS}
    return Counts(**numbers, samples=_samples(row.samples), controls=_samples(row.controls))


@cache
def _changing(columns: tuple[str, ...]) -> Many:
    return updating(members, ("rollout", "device"), columns)


def _add(conn: Connection, rollout: Row[Any], added: Mapping[int, Counts], ended_ns: int | None) -> None:
    stored = {row.wave: row for row in _waves(conn, rollout.id)}
    if not stored:
        recount(conn, rollout)  # the members are as they shall be already
        return
    last = {} if ended_ns is None else {"ended_ns": ended_ns}
    rows = [_row(rollout.id, wave, counts_in(stored[wave]) + more) | last for wave, more in added.items()]
    (_COUNT if ended_ns is None else _COUNT_ENDED).run(conn, rows)


def _waves(conn: Connection, rollout: str) -> Sequence[Row[Any]]:
    return conn.execute(_WAVES, {"rollout": rollout}).all()


def _row(rollout: str, wave: int, counts: Counts) -> dict[str, Any]:
    numbers = {name: getattr(counts, name) for name in NUMBERS}
    samples = {"samples": _lists(counts.samples), "controls": _lists(counts.controls)}
    return {"rollout": rollout, "wave": wave, **numbers, **samples}


def _lists(samples: Iterable[Sample]) -> list[list[int]]:
    return [[one.n, one.total, one.squares] for one in samples]


def _samples(stored: Iterable[Sequence[int]]) -> tuple[Sample, ...]:
    return tuple(Sample(*one) for one in stored)
