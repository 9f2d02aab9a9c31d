"""Gathers the parts of the overview in one read transaction. It writes nothing and keeps nothing."""

from sqlalchemy import Connection, select

from cloud.service.overview.activity import read_events, read_jobs
from cloud.service.overview.federated import read_runs
from cloud.service.overview.fleet import read_devices, read_groups
from cloud.service.overview.headline import headline
from cloud.service.overview.rollouts import read_rollouts
from cloud.service.overview.shapes import Overview
from cloud.service.overview.versions import read_versions
from cloud.tables import versions


def overview(conn: Connection, now_ns: int) -> Overview:
    """Everything a viewer needs, from one snapshot. `msgspec.to_builtins` turns it into plain JSON values.

    Versions, groups and runs are those of the model that got the newest version; devices are all there are.
    """
    newest_first = select(versions.c.model).order_by(versions.c.created_ns.desc(), versions.c.version.desc())
    model = conn.scalar(newest_first.limit(1)) or ""
    devices, jobs = read_devices(conn), read_jobs(conn)
    known, rollouts, runs = read_versions(conn, model), read_rollouts(conn, model), read_runs(conn, model)
    stage, line = headline(devices, known, rollouts, runs, jobs)
    return Overview(
        now_ns=now_ns,
        stage=stage,
        headline=line,
        devices=devices,
        groups=read_groups(conn, model),
        versions=known,
        rollouts=rollouts,
        federated=runs,
        jobs=jobs,
        events=read_events(conn),
    )
