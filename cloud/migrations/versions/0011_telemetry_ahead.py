"""Telemetry whose predecessor is missing is kept until that one comes."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Nothing is kept above a gap yet."""
    op.add_column("devices", sa.Column("telemetry_ahead", sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    """What is kept above a gap is sent again."""
    op.drop_column("devices", "telemetry_ahead")
