"""What each device shall run, and what keeps it from being assigned anything."""

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, String, Table, Text

from cloud.tables.base import metadata

desired = Table(  # what each device shall run: the exact signed document; its sequence stands with the device
    "desired",
    metadata,
    Column("device", ForeignKey("devices.name"), primary_key=True),
    Column("envelope", LargeBinary, nullable=False),  # DSSE over a wire.assignment.Assignment
    Column("signer", String(16), nullable=False, default=""),  # wire.dsse.keyid of the director key behind it
    Column("issued_ns", BigInteger, nullable=False),
    Column("wanted", Text, nullable=False, default="[]"),  # [[model, version, variant], ...] of the assignment's slots
)

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
