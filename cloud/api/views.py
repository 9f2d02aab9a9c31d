"""Reads rows into the API's views. One function per view, each on one snapshot."""

import base64
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, Table, select

from cloud.api.etags import etag
from cloud.api.paging import Slice, Window
from cloud.api.reaching import device_in, within
from cloud.api.schemas.access import AuditView, ChangeView, KeyView
from cloud.api.schemas.devices import DeviceView, PinView, SlotView
from cloud.api.schemas.learning import FederatedView, RoundView
from cloud.api.schemas.registry import JobView, ModelView, SigningRequestView, VersionView
from cloud.core.identity import key_state
from cloud.core.reach import EVERYTHING, Reach
from cloud.errors import UnknownError
from cloud.service.keys import reach_of
from cloud.service.selecting import written
from cloud.tables import (
    ENROLLED,
    api_keys,
    audit,
    devices,
    federated_rounds,
    federated_runs,
    job_events,
    jobs,
    models,
    pins,
    signing_requests,
    slots,
    versions,
)

MAX_EVENTS = 200


_SAID = ("reported", "telemetry")
"""Documents of a device: long, and read only where one device is asked for."""
_DERIVED = (
    ENROLLED.label("enrolled"),
    devices.c.reported_sequence.label("accepted_sequence"),
)
_BRIEF = select(
    *(column for column in devices.c if column.name in DeviceView.model_fields and column.name not in _SAID), *_DERIVED
)
_FULL = _BRIEF.add_columns(*(devices.c[name] for name in _SAID))


def device_views(conn: Connection, window: Window, reach: Reach = EVERYTHING, selector: str = "") -> Slice[DeviceView]:
    """Devices that a selector means, by name, in brief; those decommissioned excepted. Raises InvalidError."""
    meant = devices.c.decommissioned_ns.is_(None) & written(selector) & within(reach, labels=devices.c.labels)
    rows = window.rows(conn, _BRIEF.where(meant), devices.c.name)
    parts = _parts(conn, [row.name for row in rows.items])
    return Slice([_device(row, parts) for row in rows.items], rows.end)


def device_view(conn: Connection, name: str, reach: Reach = EVERYTHING) -> DeviceView:
    """One device with its newest documents. Raises UnknownError."""
    row = conn.execute(_FULL.where(devices.c.name == name)).one_or_none()
    if row is None:
        raise UnknownError(f"there is no device {name!r}")
    device_in(reach, name, row.labels)
    return _device(row, _parts(conn, [name]))


def device_tag(view: DeviceView) -> str:
    """Its ETag: what people decided about it."""
    pinned = [(pin.slot, pin.model, pin.version, pin.reason) for pin in view.pins]
    standing = (view.enrolled, view.revoked_ns, view.decommissioned_ns, view.clone_suspected_ns)
    return etag(view.name, view.labels, view.federated, view.held_reason, pinned, standing)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What belongs to devices, by their names."""

    slots: Mapping[str, list[SlotView]]
    pins: Mapping[str, list[PinView]]


def _parts(conn: Connection, names: list[str]) -> _Parts:
    return _Parts(_by_device(conn, slots, SlotView, names), _by_device(conn, pins, PinView, names))


def _by_device(conn: Connection, table: Table, kind: Any, names: list[str]) -> dict[str, Any]:
    known: dict[str, Any] = defaultdict(list)
    query = select(table).where(table.c.device.in_(names)).order_by(table.c.device, table.c.slot)
    for row in conn.execute(query):
        known[row.device].append(_pick(kind, row))
    return known


def job_views(conn: Connection, window: Window, reach: Reach = EVERYTHING) -> Slice[JobView]:
    """Jobs, oldest first, without their events."""
    query = select(jobs).where(within(reach, model=jobs.c.model))
    return window.views(conn, query, (jobs.c.created_ns, jobs.c.id), lambda row: _job(conn, row))


def job_view(conn: Connection, job: str, reach: Reach = EVERYTHING) -> JobView:
    """One job with its newest events. Raises UnknownError."""
    row = conn.execute(select(jobs).where(jobs.c.id == job)).one_or_none()
    if row is None or not reach.covers_model(row.model):
        raise UnknownError(f"there is no job {job!r}")
    newest = select(job_events.c.event).where(job_events.c.job == job).order_by(job_events.c.id.desc())
    events = list(conn.execute(newest.limit(MAX_EVENTS)).scalars())[::-1]
    return _job(conn, row).model_copy(update={"events": events})


def model_views(conn: Connection, window: Window, reach: Reach = EVERYTHING) -> Slice[ModelView]:
    """Models by name."""
    query = select(models).where(within(reach, model=models.c.name))
    return window.views(conn, query, (models.c.name,), lambda row: _pick(ModelView, row))


def version_views(conn: Connection, window: Window, model: str) -> Slice[VersionView]:
    """Versions of a model, oldest first. Raises UnknownError."""
    if conn.scalar(select(models.c.name).where(models.c.name == model)) is None:
        raise UnknownError(f"there is no model {model!r}")
    query = select(versions).where(versions.c.model == model)
    return window.views(conn, query, (versions.c.version,), _version)


def version_view(conn: Connection, model: str, version: int) -> VersionView:
    """One version. Raises UnknownError."""
    row = conn.execute(select(versions).where(versions.c.model == model, versions.c.version == version)).one_or_none()
    if row is None:
        raise UnknownError(f"there is no version {version} of model {model!r}")
    return _version(row)


def signing_views(
    conn: Connection, window: Window, state: str | None = None, reach: Reach = EVERYTHING
) -> Slice[SigningRequestView]:
    """Signing requests, oldest first."""
    query = select(signing_requests).where(within(reach, model=signing_requests.c.model))
    if state is not None:
        query = query.where(signing_requests.c.state == state)
    return window.views(conn, query, (signing_requests.c.created_ns, signing_requests.c.id), _signing)


def signing_view(conn: Connection, request: str, reach: Reach = EVERYTHING) -> SigningRequestView:
    """One signing request. Raises UnknownError."""
    row = conn.execute(select(signing_requests).where(signing_requests.c.id == request)).one_or_none()
    if row is None or not reach.covers_model(row.model):
        raise UnknownError(f"there is no signing request {request!r}")
    return _signing(row)


def federated_views(conn: Connection, window: Window, reach: Reach = EVERYTHING) -> Slice[FederatedView]:
    """Federated runs, oldest first."""
    labels = federated_runs.c.request["selector"]
    query = select(federated_runs).where(within(reach, model=federated_runs.c.model, labels=labels))
    return window.views(
        conn, query, (federated_runs.c.created_ns, federated_runs.c.id), lambda row: _federated(conn, row)
    )


def federated_view(conn: Connection, run: str, reach: Reach = EVERYTHING) -> FederatedView:
    """One federated run. Raises UnknownError."""
    row = conn.execute(select(federated_runs).where(federated_runs.c.id == run)).one_or_none()
    if row is None or not (reach.covers_model(row.model) and reach.covers_labels(row.request["selector"])):
        raise UnknownError(f"there is no federated run {run!r}")
    return _federated(conn, row)


def key_views(conn: Connection, window: Window, now_ns: int) -> Slice[KeyView]:
    """API keys, oldest first, those that are over among them."""
    return window.views(
        conn, select(api_keys), (api_keys.c.created_ns, api_keys.c.id), lambda row: key_view(row, now_ns)
    )


def key_view(row: Row[Any], now_ns: int) -> KeyView:
    """One API key."""
    reach = reach_of(row)
    view: KeyView = _pick(
        KeyView,
        row,
        state=key_state(row.expires_ns, row.revoked_ns, now_ns),
        labels=dict(reach.labels),
        models=sorted(reach.models),
    )
    return view


def key_tag(view: KeyView) -> str:
    """Its ETag."""
    return etag(view.id, view.state)


def audit_views(conn: Connection, window: Window, query: Select[Any]) -> Slice[AuditView]:
    """Changes, oldest first."""
    return window.views(conn, query, (audit.c.id,), audit_view)


def audit_view(row: Row[Any]) -> AuditView:
    """One change."""
    view: AuditView = _pick(AuditView, row)
    return view


def change_view(row: Row[Any]) -> ChangeView:
    """One change, in brief."""
    view: ChangeView = _pick(ChangeView, row)
    return view


def _pick(kind: Any, row: Row[Any], **more: Any) -> Any:
    """The fields of a view that have the name of a column, and `more`."""
    known = _columns(row) | more
    return kind(**{name: known[name] for name in kind.model_fields if name in known})


def _columns(row: Row[Any]) -> dict[str, Any]:
    return dict(zip(row._fields, row, strict=True))  # row._asdict() takes four times as long


def _json(document: bytes | None) -> dict[str, Any] | None:
    return None if document is None else msgspec.json.decode(document, type=dict[str, Any])


def _device(row: Row[Any], parts: _Parts) -> DeviceView:
    known = _columns(row)
    said = {name: _json(known[name]) for name in _SAID if name in known}
    return DeviceView(**known | said, slots=parts.slots[row.name], pins=parts.pins[row.name])


def _job(conn: Connection, row: Row[Any]) -> JobView:
    made = conn.execute(select(versions.c.version).where(versions.c.job == row.id)).scalar_one_or_none()
    view: JobView = _pick(JobView, row, version=made)
    return view


def _version(row: Row[Any]) -> VersionView:
    view: VersionView = _pick(VersionView, row, release=_json(row.release), card=_json(row.card))
    return view


def _signing(row: Row[Any]) -> SigningRequestView:
    view: SigningRequestView = _pick(SigningRequestView, row, payload=base64.b64encode(row.payload).decode())
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
