"""The hub's tables. Everything the hub does is re-derived from these rows after a crash; nothing else is the truth.

Times are integer nanoseconds since 1970 (`*_ns`). Wire documents are kept as the exact bytes that were received or
signed (`LargeBinary`); free-form detail is JSON. Timestamps that are NULL have not happened yet.
"""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

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
    Column("reported_ns", BigInteger),
    Column("telemetry", LargeBinary),  # newest wire.messages.Telemetry, as received
    Column("telemetry_seq", BigInteger, nullable=False, default=0),  # high-water mark
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

pins = Table(  # slots that stay at one version: rollouts of another one do not take them
    "pins",
    metadata,
    Column("device", ForeignKey("devices.name"), primary_key=True),
    Column("slot", String(63), primary_key=True),
    Column("model", String(63), nullable=False),
    Column("version", Integer, nullable=False),
    Column("reason", String(500), nullable=False),
    Column("pinned_by", String(100), nullable=False),
    Column("created_ns", BigInteger, nullable=False),
)

fleet_halt = Table(  # a row = nobody is assigned anything
    "fleet_halt",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("reason", String(500), nullable=False),
    Column("halted_by", String(100), nullable=False),
    Column("halted_ns", BigInteger, nullable=False),
)

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

claims = Table(
    "claims",
    metadata,
    Column("token_sha256", String(64), primary_key=True),
    Column("device", ForeignKey("devices.name"), nullable=False),
    Column("expires_ns", BigInteger, nullable=False),
    Column("used_ns", BigInteger),
    Column("verifier", String(64)),  # SHA-256 (hex) of the secret's public side: the same request may be repeated
    Column("replaces", Boolean, nullable=False, default=False),  # new hardware under an old name
)

certificates = Table(  # every certificate ever issued to a device
    "certificates",
    metadata,
    Column("serial", String(40), primary_key=True),  # hex
    Column("device", ForeignKey("devices.name"), nullable=False, index=True),
    Column("pem", String(8192), nullable=False),
    Column("key_sha256", String(64), nullable=False),  # of its public key: the same request gets the same certificate
    Column("issued_ns", BigInteger, nullable=False),
    Column("expires_ns", BigInteger, nullable=False),
    Column("revoked_ns", BigInteger),
)

trust_metadata = Table(  # every version of every TUF role that this hub has published
    "trust_metadata",
    metadata,
    Column("role", String(63), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),
    Column("expires_ns", BigInteger, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
)

telemetry_points = Table(  # what devices measured over time, each message once
    "telemetry_points",
    metadata,
    Column("device", ForeignKey("devices.name"), primary_key=True),
    Column("hardware_ns", BigInteger, primary_key=True),  # enrolled_ns of who had the name then, and counts from 1
    Column("seq", BigInteger, primary_key=True),
    Column("at_ns", BigInteger, nullable=False),
    Column("received_ns", BigInteger, nullable=False, index=True),
    Column("content", LargeBinary, nullable=False),  # wire.messages.Telemetry, as received
)

telemetry_hours = Table(  # what is kept of points that are no more: the counters as they stood last in each hour
    "telemetry_hours",
    metadata,
    Column("device", ForeignKey("devices.name"), primary_key=True),
    Column("hour_ns", BigInteger, primary_key=True, autoincrement=False, index=True),  # its beginning
    Column("model", String(63), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("variant", String(63), primary_key=True),
    Column("points", Integer, nullable=False),  # how many messages told of it
    Column("predictions", BigInteger, nullable=False),
    Column("feedback", BigInteger, nullable=False),
    Column("correct", BigInteger, nullable=False),
    Column("confidence_sum", Float, nullable=False),
    Column("latency_us", JSON, nullable=False),  # {"bucket": count} of wire.histogram
)

leadership = Table(  # which of the hubs that share this database leads: one row
    "leadership",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("holder", String(64), nullable=False),  # "" = nobody
    Column("term", BigInteger, nullable=False),  # grows with every change of the holder, never falls
    Column("beat", BigInteger, nullable=False),  # grows with every sign of life of the holder
)

deltas = Table(  # objects that turn one file into another; NULL object = not worth it
    "deltas",
    metadata,
    Column("base", String(64), primary_key=True),
    Column("target", String(64), primary_key=True),
    Column("object", JSON),  # wire.release.ObjectRef, brief
    Column("created_ns", BigInteger, nullable=False),
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
)

stats = Table(  # newest cumulative counters of each variant on each device
    "stats",
    metadata,
    Column("device", ForeignKey("devices.name"), primary_key=True),
    Column("model", String(63), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("variant", String(63), primary_key=True),
    Column("predictions", BigInteger, nullable=False),
    Column("feedback", BigInteger, nullable=False),
    Column("correct", BigInteger, nullable=False),
    Column("confidence_sum", Float, nullable=False),
    Column("latency_us", JSON, nullable=False),  # {"bucket": count} of wire.histogram; keys are strings in JSON
)

desired = Table(  # what each device shall run: the exact signed document of its newest sequence
    "desired",
    metadata,
    Column("device", ForeignKey("devices.name"), primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("assignment", LargeBinary, nullable=False),  # wire.assignment.Assignment
    Column("envelope", LargeBinary, nullable=False),  # DSSE over it
    Column("signer", String(16), nullable=False, default=""),  # wire.dsse.keyid of the director key behind it
    Column("issued_ns", BigInteger, nullable=False),
)

objects = Table(
    "objects",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
)

artefacts = Table(  # objects that came as uploads and passed their inspection
    "artefacts",
    metadata,
    Column("sha256", ForeignKey("objects.sha256"), primary_key=True),
    Column("kind", String(16), nullable=False),  # cloud.ports.Inspection: onnx | tflite | safetensors
    Column("facts", JSON, nullable=False),
    Column("uploaded_by", String(100), nullable=False),
    Column("created_ns", BigInteger, nullable=False),
)

retained = Table(  # objects whose chunks the hub has published, so that they are cleared again after any restart
    "retained",
    metadata,
    Column("sha256", ForeignKey("objects.sha256"), primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("used_ns", BigInteger, nullable=False, default=0),  # last needed: the least recent one gives way
)

models = Table(
    "models",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("workload", String(200), nullable=False),
    Column("last_version", Integer, nullable=False, default=0),
    Column("last_counter", BigInteger, nullable=False, default=0),
    Column("promotion", JSON(none_as_null=True)),  # core.promotion.Rule; NULL = the default one
    Column("production", Integer),  # the version in production; NULL = none yet
    Column("furthest", Integer, nullable=False, default=0),  # the highest version that was ever in production
    Column("created_ns", BigInteger, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("model", ForeignKey("models.name"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("counter", BigInteger, nullable=False),
    Column("state", String(32), nullable=False),  # core.registry.VersionState
    Column("reason", String(500), nullable=False, default=""),  # why it was refused
    Column("release", LargeBinary, nullable=False),  # wire.release.Release: the bytes that a target stands for
    Column("release_ref", JSON),  # wire.release.ObjectRef of `release` as an object; NULL until released
    Column("card", LargeBinary, nullable=False),  # wire.release.ModelCard
    Column("chosen", String(63), nullable=False),  # variant that rollouts ship
    Column("job", String(64), nullable=False),
    Column("parent_version", Integer),
    Column("federated_run", String(64)),
    Column("created_ns", BigInteger, nullable=False),
    Column("released_ns", BigInteger),
    Column("retired", String(500), nullable=False, default=""),  # why nobody may use it any more; "" = it may be used
)

version_objects = Table(  # which objects a version consists of
    "version_objects",
    metadata,
    Column("model", String(63), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("sha256", ForeignKey("objects.sha256"), primary_key=True),
)

signing_requests = Table(
    "signing_requests",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("model", String(63), nullable=False),
    Column("version", Integer, nullable=False),
    Column("payload", LargeBinary, nullable=False),  # the release bytes
    Column("gate_report", JSON, nullable=False),
    Column("state", String(32), nullable=False),  # pending | signed | refused
    Column("reason", String(500), nullable=False, default=""),
    Column("created_ns", BigInteger, nullable=False),
    Column("decided_ns", BigInteger),
    UniqueConstraint("model", "version"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(32), nullable=False),  # train | derive | federated
    Column("state", String(32), nullable=False),  # queued | running | succeeded | failed
    Column("model", String(63), nullable=False),
    Column("request", JSON, nullable=False),
    Column("federated_run", String(64)),
    Column("attempts", Integer, nullable=False, default=0),
    Column("error", String(1000), nullable=False, default=""),
    Column("created_ns", BigInteger, nullable=False),
    Column("started_ns", BigInteger),
    Column("finished_ns", BigInteger),
)

job_events = Table(
    "job_events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("job", ForeignKey("jobs.id"), nullable=False, index=True),
    Column("at_ns", BigInteger, nullable=False),
    Column("event", JSON, nullable=False),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("model", String(63), nullable=False),
    Column("version", Integer, nullable=False),
    Column("slot", String(63), nullable=False),
    Column("selector", JSON, nullable=False),
    Column("plan", JSON, nullable=False),  # core.rollout.Plan
    Column("state", String(32), nullable=False),  # core.rollout.RolloutState
    Column("wave", Integer, nullable=False),  # index of the wave that is open now
    Column("reason", String(1000), nullable=False, default=""),
    Column("evidence", JSON, nullable=False),  # newest verdict of each gate of each wave: core.gates.judge.Verdict
    Column("approved", Integer, nullable=False, default=0),  # the last wave that a person has let open
    Column("retries", Integer, nullable=False, default=0),  # attempts repeated so far, of the plan's budget
    Column("asked", JSON, nullable=False, default=[]),  # [[at_ns, devices], ...]: assignments of the last minute
    Column("measured_to", String(63), nullable=False, default=""),  # the device that figures were last looked for at
    Column("joined_to", String(63), nullable=False, default=""),  # the device that late joiners were last looked for at
    Column("ticked_ns", BigInteger, nullable=False, default=0),  # when it was last looked after
    Column("reverts", String(64)),  # the rollout that it undoes; its devices are fixed
    Column("created_ns", BigInteger, nullable=False),
    Column("updated_ns", BigInteger, nullable=False),
    Column("finished_ns", BigInteger),
)

members = Table(  # one device in one rollout: its wave, its execution and how that ended
    "members",
    metadata,
    Column("rollout", ForeignKey("rollouts.id"), primary_key=True),
    Column("device", ForeignKey("devices.name"), primary_key=True),
    Column("wave", Integer, nullable=False),
    Column("place", BigInteger, nullable=False, default=0),  # core.rollout.waves.place
    Column("label_group", String(255), nullable=False, default=""),  # value of the plan's disruption label
    Column("status", String(16), nullable=False, default="waiting"),  # core.rollout.members.Status
    Column("due_ns", BigInteger, nullable=False, default=0),  # waiting: not before; in flight: overdue from then on
    Column("attempt", Integer, nullable=False, default=1),
    Column("figures", JSON, nullable=False, default={}),  # {"now" | "before" | "control": {fact: value}}
    Column("measured", Boolean, nullable=False, default=False),  # nothing is left to measure as things stand
    Column("previous", JSON),  # {"model", "version"} that it ran when it was assigned
    Column("execution", String(64), nullable=False, default=""),  # "" = not assigned yet
    Column("outcome", String(32)),  # wire.messages.Outcome; NULL = not ended
    Column("reason", String(500), nullable=False, default=""),
    Column("golden_matched", Integer, nullable=False, default=0),
    Column("golden_total", Integer, nullable=False, default=0),
    Column("acknowledged", Boolean, nullable=False, default=False),  # a person has seen its end and its evidence
    Column("assigned_ns", BigInteger),
    Column("finished_ns", BigInteger),
    Index("ix_members_device", "device"),
    Index("ix_members_execution", "execution"),
    Index("ix_members_next", "rollout", "status", "wave", "place"),
    Index("ix_members_due", "rollout", "status", "due_ns"),
    Index("ix_members_outcome", "rollout", "outcome", "measured", "device"),
)

rollout_waves = Table(  # the counts of each wave, kept up to date with every change of a member: core.rollout.members
    "rollout_waves",
    metadata,
    Column("rollout", ForeignKey("rollouts.id"), primary_key=True),
    Column("wave", Integer, primary_key=True, autoincrement=False),
    Column("planned", Integer, nullable=False),
    Column("waiting", Integer, nullable=False),
    Column("in_flight", Integer, nullable=False),
    Column("committed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("acknowledged", Integer, nullable=False),
    Column("accepted", Integer, nullable=False, default=0),
    Column("samples", JSON, nullable=False),  # per rule of the gates: [n, total, squares]
    Column("controls", JSON, nullable=False),
    Column("ended_ns", BigInteger, nullable=False, default=0),  # when its last execution ended
)

rollout_bystanders = Table(  # devices beyond the last wave when a rollout began: they are no late joiners
    "rollout_bystanders",
    metadata,
    Column("rollout", ForeignKey("rollouts.id"), primary_key=True),
    Column("device", ForeignKey("devices.name"), primary_key=True),
)

federated_runs = Table(
    "federated_runs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("model", String(63), nullable=False),
    Column("version", Integer, nullable=False),  # the version it starts from
    Column("state", String(32), nullable=False),  # running | deriving | succeeded | refused | failed
    Column("reason", String(1000), nullable=False, default=""),
    Column("request", JSON, nullable=False),
    Column("devices", JSON, nullable=False),  # {name: labels}, fixed when the run starts
    Column("verdict", JSON),  # core.federated_gate.Verdict
    Column("result_version", Integer),
    Column("created_ns", BigInteger, nullable=False),
    Column("finished_ns", BigInteger),
)

federated_rounds = Table(
    "federated_rounds",
    metadata,
    Column("run", ForeignKey("federated_runs.id"), primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("clients", Integer, nullable=False),
    Column("failures", JSON, nullable=False),
    Column("train_loss", Float),
    Column("eval_acc", Float),
    Column("eval_loss", Float),
    Column("bytes_down", BigInteger, nullable=False),
    Column("bytes_up", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),
)


def _key_id(row: Any) -> str:
    """A key's public name: it tells nothing of the key, and is found in what is kept of it."""
    return str(row.get_current_parameters()["sha256"][:16])


api_keys = Table(
    "api_keys",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("id", String(16), nullable=False, unique=True, default=_key_id),
    Column("name", String(63), nullable=False),
    Column("role", String(32), nullable=False),  # core.identity.Role
    Column("reach", JSON(none_as_null=True)),  # {"labels": {...}, "models": [...]}: core.reach.Reach; NULL = everything
    Column("requests_per_s", Float),  # NULL = as the hub's settings say
    Column("created_ns", BigInteger, nullable=False),
    Column("expires_ns", BigInteger),
    Column("revoked_ns", BigInteger),
    Column("used_ns", BigInteger),  # to within some minutes
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at_ns", BigInteger, nullable=False),
    Column("actor", String(100), nullable=False),
    Column("request", String(64), nullable=False, default=""),  # id of the API request; "" = none caused it
    Column("action", String(64), nullable=False),  # e.g. rollout.create, version.release, rollout.wave
    Column("subject", String(200), nullable=False, index=True),
    Column("detail", JSON, nullable=False),
    Column("before", JSON(none_as_null=True)),  # what the change replaced; NULL = nothing, or not to be said
    Column("after", JSON(none_as_null=True)),
)

idempotency = Table(  # POSTs that carried an Idempotency-Key and changed something
    "idempotency",
    metadata,
    Column("api_key", String(16), primary_key=True),  # api_keys.id
    Column("key", String(200), primary_key=True),
    Column("fingerprint", String(64), nullable=False),  # SHA-256 (hex) of method, path, query and body
    Column("created_ns", BigInteger, nullable=False, index=True),
    Column("secret", Boolean, nullable=False),  # the answer is shown once, and not kept
    Column("status", Integer),  # NULL = the answer never left
    Column("headers", JSON(none_as_null=True)),
    Column("body", LargeBinary),
)
