"""Devices: who they are, what they last said, which groups they form, and what each of their slots reported."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, ForeignKey, Index, Integer, LargeBinary, String, Table

from cloud.tables.base import NO_TEXT, ZERO, metadata

devices = Table(
    "devices",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("labels", JSON, nullable=False),  # {"person": "01", "arm": "left", "role": "learner"}
    Column("federated", Boolean, nullable=False),  # may it take part in federated learning?
    Column("verifier", String(64)),  # SHA-256 (hex) of its broker password; NULL = it has none
    Column("claimed_ns", BigInteger, nullable=False),
    Column("enrolled_ns", BigInteger),
    Column("online", Boolean, nullable=False, default=False),
    Column("seen_ns", BigInteger),  # last message of any kind
    Column("boot", Integer, nullable=False, default=0),
    Column("reported", LargeBinary),  # newest wire.messages.Reported, as received
    Column("reported_seq", BigInteger, nullable=False, default=0),  # high-water mark
    Column("reported_sequence", BigInteger, nullable=False, default=0),  # newest assignment the device accepted
    Column("reported_digest", String(16), nullable=False, default=""),  # of that assignment; '' = it does not tell
    Column("reported_ns", BigInteger),
    Column("desired_sequence", BigInteger, nullable=False, default=0),  # of its document in `desired`; 0 = none
    Column("desired_digest", String(16), nullable=False, default=""),  # wire.assignment.assignment_digest
    Column("telemetry", LargeBinary),  # newest wire.messages.Telemetry, as received
    Column("telemetry_seq", BigInteger, nullable=False, default=0),  # high-water mark
    Column(
        "telemetry_ahead", BigInteger, nullable=False, default=0
    ),  # highest above a gap; below the mark: there is none
    Column("telemetry_ns", BigInteger),
    Column("last_refusal", String(500), nullable=False, default=""),  # why the hub refused its last bad message
    Column("last_refusal_ns", BigInteger),
    Column("refusal_count", Integer, nullable=False, default=0),
    Column("sessions", JSON),  # core.clones.Turns: which of its sessions spoke last
    Column("clone_suspected_ns", BigInteger),  # two sessions took turns under this name
    Column("revoked_ns", BigInteger),  # may neither log in nor be heard any more
    Column("certificate_serial", String(40)),  # hex; NULL = logs in with a password
    Column("certificate_expires_ns", BigInteger),
    Column("gone_ns", BigInteger),  # since when it is offline; NULL = it is online, or was never there
    Column("agent", String(64), nullable=False, default=""),  # version of its agent, as it last reported
    Column("speaks", Integer, nullable=False, default=0),  # highest schema of control documents that it reads
    Column("held_ns", BigInteger),  # since when no rollout may take it; NULL = any may
    Column("held_reason", String(500), nullable=False, default=""),
    Column("held_by", String(100), nullable=False, default=""),
    Column("decommissioned_ns", BigInteger),  # it is gone for good; its history stays
)

ENROLLED = devices.c.enrolled_ns.is_not(None) & devices.c.revoked_ns.is_(None)
"""Is this device of the fleet now?"""

BEHIND = devices.c.online & (devices.c.reported_sequence < devices.c.desired_sequence)
"""Is it there, and has not accepted what it shall run?"""
_ANOTHER = (
    (devices.c.reported_sequence == devices.c.desired_sequence)
    & (devices.c.reported_digest != NO_TEXT)
    & (devices.c.reported_digest != devices.c.desired_digest)
)
AHEAD = (devices.c.desired_sequence > ZERO) & (
    (devices.c.reported_sequence > devices.c.desired_sequence) | _ANOTHER
)  # fmt: skip
"""Has it accepted a higher sequence than we know, or under our newest one what we did not write?"""

Index("ix_devices_behind", devices.c.name, sqlite_where=BEHIND, postgresql_where=BEHIND)
Index("ix_devices_ahead", devices.c.name, sqlite_where=AHEAD, postgresql_where=AHEAD)

device_groups = Table(
    "device_groups",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("selector", String(1000), nullable=False),  # core.selector, as it was written
    Column("description", String(500), nullable=False, default=""),
    Column("created_ns", BigInteger, nullable=False),
    Column("updated_ns", BigInteger, nullable=False),
)

device_events = Table(  # what the hub saw of a device and keeps nowhere else
    "device_events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("device", ForeignKey("devices.name"), nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("event", String(32), nullable=False),  # absent | agent
    Column("detail", JSON, nullable=False),
    Index("ix_device_events_device_at_ns", "device", "at_ns"),
)

slots = Table(  # newest report of each model slot of each device
    "slots",
    metadata,
    Column("device", ForeignKey("devices.name"), primary_key=True),
    Column("slot", String(63), primary_key=True),
    Column("phase", String(32), nullable=False),  # wire.messages.Phase
    Column("model", String(63)),  # what is installed now (committed); NULL = nothing
    Column("version", Integer),
    Column("variant", String(63)),
    Column("sha256", String(64)),
    Column("execution", String(64), nullable=False),
    Column("outcome", String(32)),  # wire.messages.Outcome
    Column("reason", String(500), nullable=False),
    Column("golden_matched", Integer),
    Column("golden_total", Integer),
    Column("golden_max_error", Float),
    Index("ix_slots_phase", "phase"),
)
