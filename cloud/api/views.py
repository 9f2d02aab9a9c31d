"""Reads rows into the API's views. One function per view, each on one snapshot."""

import base64
from collections import defaultdict
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select

from cloud.api.schemas import (
    DeviceView,
    FederatedView,
    JobView,
    RoundView,
    SigningRequestView,
    SlotView,
    VersionView,
)
from cloud.errors import UnknownError
from cloud.service.selecting import written
from cloud.tables import (
    desired,
    devices,
    federated_rounds,
    federated_runs,
    job_events,
    jobs,
    signing_requests,
    slots,
    versions,
)

MAX_EVENTS = 200


def device_views(conn: Connection, name: str | None = None, selector: str = "") -> list[DeviceView]:
    """Devices that a selector means, those that were decommissioned excepted; or one in full. Raises InvalidError."""
    rows = select(devices, desired.c.sequence).join(desired, desired.c.device == devices.c.name, isouter=True)
    meant = devices.c.decommissioned_ns.is_(None) & written(selector) if name is None else devices.c.name == name
    query = rows.where(meant).order_by(devices.c.name)
    known: dict[str, list[SlotView]] = defaultdict(list)
    for row in conn.execute(select(slots).order_by(slots.c.device, slots.c.slot)):
        known[row.device].append(_pick(SlotView, row))
    return [_device(row, known[row.name], full=name is not None) for row in conn.execute(query)]


def device_view(conn: Connection, name: str) -> DeviceView:
    """One device with its newest documents. Raises UnknownError."""
    found = device_views(conn, name)
    if not found:
        raise UnknownError(f"there is no device {name!r}")
    return found[0]


def job_views(conn: Connection) -> list[JobView]:
    """All jobs, oldest first, without their events."""
    return [_job(conn, row) for row in conn.execute(select(jobs).order_by(jobs.c.created_ns, jobs.c.id))]


def job_view(conn: Connection, job: str) -> JobView:
    """One job with its newest events. Raises UnknownError."""
    row = conn.execute(select(jobs).where(jobs.c.id == job)).one_or_none()
    if row is None:
        raise UnknownError(f"there is no job {job!r}")
    newest = select(job_events.c.event).where(job_events.c.job == job).order_by(job_events.c.id.desc())
    events = list(conn.execute(newest.limit(MAX_EVENTS)).scalars())[::-1]
    return _job(conn, row).model_copy(update={"events": events})


def version_views(conn: Connection, model: str) -> list[VersionView]:
    """All versions of a model, oldest first."""
    query = select(versions).where(versions.c.model == model).order_by(versions.c.version)
    return [_version(row) for row in conn.execute(query)]


def version_view(conn: Connection, model: str, version: int) -> VersionView:
    """One version. Raises UnknownError."""
    row = conn.execute(select(versions).where(versions.c.model == model, versions.c.version == version)).one_or_none()
    if row is None:
        raise UnknownError(f"there is no version {version} of model {model!r}")
    return _version(row)


def signing_views(conn: Connection, state: str | None) -> list[SigningRequestView]:
    """Signing requests, oldest first."""
    query = select(signing_requests).order_by(signing_requests.c.created_ns, signing_requests.c.id)
    if state is not None:
        query = query.where(signing_requests.c.state == state)
    return [
        _pick(SigningRequestView, row, payload=base64.b64encode(row.payload).decode()) for row in conn.execute(query)
    ]


def federated_views(conn: Connection) -> list[FederatedView]:
    """All federated runs, oldest first."""
    query = select(federated_runs).order_by(federated_runs.c.created_ns, federated_runs.c.id)
    return [_federated(conn, row) for row in conn.execute(query).all()]


def federated_view(conn: Connection, run: str) -> FederatedView:
    """One federated run. Raises UnknownError."""
    row = conn.execute(select(federated_runs).where(federated_runs.c.id == run)).one_or_none()
    if row is None:
        raise UnknownError(f"there is no federated run {run!r}")
    return _federated(conn, row)


def _pick(kind: Any, row: Row[Any], **more: Any) -> Any:
    """The fields of a view that have the name of a column, and `more`."""
    known = row._mapping
    return kind(**{name: known[name] for name in kind.model_fields if name in known and name not in more}, **more)


def _json(document: bytes | None) -> dict[str, Any] | None:
    return None if document is None else msgspec.json.decode(document, type=dict[str, Any])


def _device(row: Row[Any], found: list[SlotView], *, full: bool) -> DeviceView:
    view: DeviceView = _pick(
        DeviceView,
        row,
        enrolled=row.enrolled_ns is not None and row.revoked_ns is None,
        desired_sequence=row.sequence or 0,
        accepted_sequence=row.reported_sequence,
        slots=found,
        reported=_json(row.reported) if full else None,
        telemetry=_json(row.telemetry) if full else None,
    )
    return view


def _job(conn: Connection, row: Row[Any]) -> JobView:
    made = conn.execute(select(versions.c.version).where(versions.c.job == row.id)).scalar_one_or_none()
    view: JobView = _pick(JobView, row, version=made)
    return view


def _version(row: Row[Any]) -> VersionView:
    view: VersionView = _pick(VersionView, row, release=_json(row.release), card=_json(row.card))
    return view


def _federated(conn: Connection, row: Row[Any]) -> FederatedView:
    query = select(federated_rounds).where(federated_rounds.c.run == row.id).order_by(federated_rounds.c.round)
    view: FederatedView = _pick(
        FederatedView,
        row,
        strategy=row.request["strategy"],
        rounds_planned=row.request["rounds"],
        devices=sorted(row.devices),
        rounds=[_pick(RoundView, one) for one in conn.execute(query)],
    )
    return view
