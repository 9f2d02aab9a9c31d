"""Uploaded artefacts, promotion; groups, holds and pins, presence and history of devices."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def _columns() -> dict[str, tuple[sa.Column[Any], ...]]:
    """New columns of tables that are there."""
    return {
        "models": (
            sa.Column("promotion", sa.JSON(), nullable=True),
            sa.Column("production", sa.Integer(), nullable=True),
        ),
        "versions": (sa.Column("retired", sa.String(length=500), nullable=False, server_default=""),),
        "devices": (
            sa.Column("gone_ns", sa.BigInteger(), nullable=True),
            sa.Column("agent", sa.String(length=64), nullable=False, server_default=""),
            sa.Column("speaks", sa.Integer(), nullable=False, server_default="0"),
            sa.Column("held_ns", sa.BigInteger(), nullable=True),
            sa.Column("held_reason", sa.String(length=500), nullable=False, server_default=""),
            sa.Column("held_by", sa.String(length=100), nullable=False, server_default=""),
            sa.Column("decommissioned_ns", sa.BigInteger(), nullable=True),
        ),
    }


def upgrade() -> None:
    """Add what the registry and the operators of devices need."""
    op.create_table(
        "artefacts",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("uploaded_by", sa.String(length=100), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["sha256"], ["objects.sha256"], name=op.f("fk_artefacts_sha256_objects")),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_artefacts")),
    )
    for name, columns in _columns().items():
        for column in columns:
            op.add_column(name, column)
    _create_fleet_tables()


def _create_fleet_tables() -> None:
    op.create_table(
        "pins",
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("slot", sa.String(length=63), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("pinned_by", sa.String(length=100), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.name"], name=op.f("fk_pins_device_devices")),
        sa.PrimaryKeyConstraint("device", "slot", name=op.f("pk_pins")),
    )
    op.create_table(
        "fleet_halt",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("halted_by", sa.String(length=100), nullable=False),
        sa.Column("halted_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fleet_halt")),
    )
    op.create_table(
        "device_groups",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("selector", sa.String(length=1000), nullable=False),
        sa.Column("description", sa.String(length=500), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.Column("updated_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_device_groups")),
    )
    op.create_table(
        "device_events",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.String(length=32), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.name"], name=op.f("fk_device_events_device_devices")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_events")),
    )
    op.create_index("ix_device_events_device_at_ns", "device_events", ["device", "at_ns"])


def downgrade() -> None:
    """Remove it again."""
    op.drop_index("ix_device_events_device_at_ns", table_name="device_events")
    for gone in ("device_events", "device_groups", "fleet_halt", "pins"):
        op.drop_table(gone)
    for name, columns in _columns().items():
        for column in columns:
            op.drop_column(name, column.name)
    op.drop_table("artefacts")
