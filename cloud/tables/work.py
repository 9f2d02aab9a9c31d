"""Work in processes of its own: training, deriving, and federated runs with their rounds."""

from sqlalchemy import JSON, BigInteger, Column, Float, ForeignKey, Integer, String, Table

from cloud.tables.base import metadata

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(32), nullable=False),  # train | derive | federated
    Column("state", String(32), nullable=False, index=True),  # queued | running | stopping | succeeded | failed
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
