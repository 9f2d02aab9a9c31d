"""Jobs with their newest progress, and the newest lines of the audit trail."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, func, select

from cloud.service.overview.shapes import EventView, JobView, Stage
from cloud.tables import audit, job_events, jobs

NEWEST_JOBS = 6
NEWEST_EVENTS = 60

STAGES: dict[str, Stage] = {"train": "train", "derive": "optimize", "federated": "learn"}
"""Where a job of this kind begins."""


def read_jobs(conn: Connection) -> tuple[JobView, ...]:
    """The newest jobs, oldest first."""
    every = job_events.alias()
    newest = select(func.max(every.c.id)).where(every.c.job == jobs.c.id).correlate(jobs).scalar_subquery()
    with_event = jobs.outerjoin(job_events, job_events.c.id == newest)
    query = (
        select(jobs, job_events.c.event).select_from(with_event).order_by(jobs.c.created_ns.desc()).limit(NEWEST_JOBS)
    )
    views = [_job(row) for row in conn.execute(query)]
    return tuple(reversed(views))


def _job(row: Row[Any]) -> JobView:
    stage, progress = _progress(row.event or {}, STAGES[row.kind])
    return JobView(id=row.id, kind=row.kind, state=row.state, stage=stage, progress=progress)


def read_events(conn: Connection) -> tuple[EventView, ...]:
    """The newest audit lines, newest first."""
    rows = conn.execute(select(audit).order_by(audit.c.id.desc()).limit(NEWEST_EVENTS))
    return tuple(
        EventView(at_ns=row.at_ns, actor=row.actor, action=row.action, subject=row.subject, detail=_detail(row.detail))
        for row in rows
    )


def _detail(detail: Mapping[str, object]) -> str:
    """The short values, as words; waves are counted from one, as people do."""
    short = {key: value for key, value in detail.items() if isinstance(value, str | int) and value != ""}
    if isinstance(wave := short.get("wave"), int):
        short["wave"] = wave + 1
    return ", ".join(f"{key} {value}" for key, value in short.items())


def _progress(event: Mapping[str, object], stage: Stage) -> tuple[Stage, str]:
    """Stage and words for the newest event of a job that began at `stage`."""
    match event:
        case {"event": "epoch", "stage": "finetune", "epoch": epoch, "epochs": epochs}:
            return "optimize", f"tuning the pruned copy, epoch {epoch} of {epochs}"
        case {"event": "epoch", "epoch": epoch, "epochs": epochs}:
            return stage, f"epoch {epoch} of {epochs}"
        case {"event": "candidate", "name": name}:
            return "optimize", f"measured {name}"
        case {"event": "exported"}:
            return stage, "graphs exported"
        case {"event": "done"}:
            return "optimize", "done"
        case _:
            return stage, ""
