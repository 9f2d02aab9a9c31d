"""What devices measured: the newest counters, every message for a while, and the hours that are kept of them."""

from sqlalchemy import JSON, BigInteger, Column, Float, ForeignKey, Integer, LargeBinary, String, Table

from cloud.tables.base import metadata

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
