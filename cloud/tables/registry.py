"""Models, their versions, and what the publisher is asked to sign."""

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Integer, LargeBinary, String, Table, UniqueConstraint

from cloud.tables.base import metadata

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
