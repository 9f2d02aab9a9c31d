"""The hub's tables. Everything the hub does is re-derived from these rows after a crash; nothing else is the truth.

Times are integer nanoseconds since 1970 (`*_ns`). Wire documents are kept as the exact bytes that were received or
signed (`LargeBinary`); free-form detail is JSON. Timestamps that are NULL have not happened yet.

One module for each thing that rows are about, named otherwise than any table: users import tables from here.
"""

from cloud.tables.access import api_keys, audit, idempotency
from cloud.tables.assignments import desired, fleet_halt, pins
from cloud.tables.base import metadata
from cloud.tables.contents import artefacts, deltas, objects, retained
from cloud.tables.fleet import AHEAD, BEHIND, ENROLLED, device_events, device_groups, devices, slots
from cloud.tables.identity import certificates, claims, trust_metadata
from cloud.tables.registry import models, signing_requests, version_objects, versions
from cloud.tables.replicas import leadership
from cloud.tables.rollout import BUSY, members, rollout_bystanders, rollout_waves, rollouts
from cloud.tables.telemetry import stats, telemetry_hours, telemetry_points
from cloud.tables.work import federated_rounds, federated_runs, job_events, jobs

__all__ = [
    "AHEAD",
    "BEHIND",
    "BUSY",
    "ENROLLED",
    "api_keys",
    "artefacts",
    "audit",
    "certificates",
    "claims",
    "deltas",
    "desired",
    "device_events",
    "device_groups",
    "devices",
    "federated_rounds",
    "federated_runs",
    "fleet_halt",
    "idempotency",
    "job_events",
    "jobs",
    "leadership",
    "members",
    "metadata",
    "models",
    "objects",
    "pins",
    "retained",
    "rollout_bystanders",
    "rollout_waves",
    "rollouts",
    "signing_requests",
    "slots",
    "stats",
    "telemetry_hours",
    "telemetry_points",
    "trust_metadata",
    "version_objects",
    "versions",
]
