"""Who leads the hubs, and the hours that old telemetry is rolled up into."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add both tables."""
    op.create_table(
        "leadership",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("term", sa.BigInteger(), nullable=False),
        sa.Column("beat", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leadership")),
    )
    op.create_table(
        "telemetry_hours",
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("hour_ns", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("variant", sa.String(length=63), nullable=False),
        sa.Column("points", sa.Integer(), nullable=False),
        sa.Column("predictions", sa.BigInteger(), nullable=False),
        sa.Column("feedback", sa.BigInteger(), nullable=False),
        sa.Column("correct", sa.BigInteger(), nullable=False),
        sa.Column("confidence_sum", sa.Float(), nullable=False),
        sa.Column("latency_us", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.name"], name=op.f("fk_telemetry_hours_device_devices")),
        sa.PrimaryKeyConstraint("device", "hour_ns", "model", "version", "variant", name=op.f("pk_telemetry_hours")),
    )
    op.create_index(op.f("ix_telemetry_hours_hour_ns"), "telemetry_hours", ["hour_ns"])


def downgrade() -> None:
    """Remove them; hours are lost."""
    op.drop_index(op.f("ix_telemetry_hours_hour_ns"), table_name="telemetry_hours")
    op.drop_table("telemetry_hours")
    op.drop_table("leadership")
