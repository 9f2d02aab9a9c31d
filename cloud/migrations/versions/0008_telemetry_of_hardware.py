"""Measurements are of the hardware that had the name when they were taken: numbers begin anew with new hardware."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_OF_NOW = "UPDATE telemetry_points SET hardware_ns = coalesce((SELECT enrolled_ns FROM devices WHERE name = device), 0)"
_OLDER = (
    "DELETE FROM telemetry_points WHERE EXISTS (SELECT 1 FROM telemetry_points AS newer WHERE "
    "newer.device = telemetry_points.device AND newer.seq = telemetry_points.seq "
    "AND newer.hardware_ns > telemetry_points.hardware_ns)"
)


def upgrade() -> None:
    """What is there is taken for the present hardware's."""
    with op.batch_alter_table("telemetry_points") as table:
        table.add_column(sa.Column("hardware_ns", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute(_OF_NOW)
    _key("device", "hardware_ns", "seq")


def downgrade() -> None:
    """Of two with the same number, the one of the newer hardware stays."""
    op.execute(_OLDER)
    _key("device", "seq")
    with op.batch_alter_table("telemetry_points") as table:
        table.drop_column("hardware_ns")


def _key(*columns: str) -> None:
    with op.batch_alter_table("telemetry_points") as table:
        table.drop_constraint("pk_telemetry_points", type_="primary")
        table.create_primary_key("pk_telemetry_points", list(columns))
