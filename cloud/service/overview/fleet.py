"""Devices with what they run and measured, and the same figures summed over groups of devices."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, and_, select

from cloud.service.overview.shapes import DeviceView, GroupView, Quality
from cloud.tables import devices, slots, stats
from wire.histogram import merge, quantile
from wire.messages import Phase, Reported, Telemetry

SLOT: Final = "main"
"""The slot that the overview is about."""
GROUP_LABELS: Final = ("arm", "role")
"""Labels that devices are grouped by, those of them that a device has."""

AnyRow = Row[Any]


def read_devices(conn: Connection) -> tuple[DeviceView, ...]:
    """All devices that were announced, by name."""
    mine = and_(slots.c.device == devices.c.name, slots.c.slot == SLOT)
    columns = (devices, slots.c.phase, slots.c.model, slots.c.version, slots.c.variant, slots.c.reason)
    rows = conn.execute(select(*columns).select_from(devices.outerjoin(slots, mine)).order_by(devices.c.name))
    measured = _measured(conn)
    return tuple(_device(row, measured.get((row.name, row.model, row.version, row.variant))) for row in rows)


def read_groups(conn: Connection, model: str) -> tuple[GroupView, ...]:
    """Per version of `model` and group of devices, oldest version first."""
    query = (
        select(stats, devices.c.labels).join(devices, devices.c.name == stats.c.device).where(stats.c.model == model)
    )
    groups: dict[tuple[int, tuple[tuple[str, str], ...]], list[AnyRow]] = {}
    for row in conn.execute(query):
        labels = tuple((name, row.labels[name]) for name in GROUP_LABELS if name in row.labels)
        groups.setdefault((row.version, labels), []).append(row)
    return tuple(_group(version, labels, rows) for (version, labels), rows in sorted(groups.items()))


def _measured(conn: Connection) -> Mapping[tuple[str, str, int, str], AnyRow]:
    return {(row.device, row.model, row.version, row.variant): row for row in conn.execute(select(stats))}


def _device(row: AnyRow, measured: AnyRow | None) -> DeviceView:
    return DeviceView(
        name=row.name,
        labels=row.labels,
        online=row.online,
        phase=row.phase or Phase.IDLE.value,
        version=row.version,
        variant=row.variant,
        quality=_quality([measured] if measured is not None else []),
        updates_sent=_updates_sent(row.telemetry),
        note=_note(row),
    )


def _note(row: AnyRow) -> str:
    """What is wrong now: a refusal that was followed by a good report is history."""
    if row.revoked_ns is not None:
        return "revoked: it needs a new claim"
    if row.clone_suspected_ns is not None:
        return "two devices seem to speak under this name: replace or revoke it, or call the alarm off"
    if row.last_refusal and (row.last_refusal_ns or 0) >= (row.reported_ns or 0):
        return str(row.last_refusal)
    return _refused(row.reported) or (row.reason if row.phase == Phase.FAILED else "")


def _group(version: int, labels: Iterable[tuple[str, str]], rows: list[AnyRow]) -> GroupView:
    count = len({row.device for row in rows})
    return GroupView(version=version, labels=dict(labels), devices=count, quality=_quality(rows))


def _quality(rows: list[AnyRow]) -> Quality:
    predictions, feedback = sum(row.predictions for row in rows), sum(row.feedback for row in rows)
    latency = merge(*({int(bucket): count for bucket, count in row.latency_us.items()} for row in rows))
    return Quality(
        predictions=predictions,
        feedback=feedback,
        accuracy=sum(row.correct for row in rows) / feedback if feedback else None,
        confidence=sum(row.confidence_sum for row in rows) / predictions if predictions else None,
        p50_ms=quantile(latency, 0.5) / 1e3 if any(latency.values()) else None,
    )


def _updates_sent(telemetry: bytes | None) -> int:
    return msgspec.json.decode(telemetry, type=Telemetry).federated_updates_sent if telemetry else 0


def _refused(reported: bytes | None) -> str:
    return msgspec.json.decode(reported, type=Reported).refused if reported else ""
