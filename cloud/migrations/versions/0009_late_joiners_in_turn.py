"""Rollouts look for late joiners in turn."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Where each has got to: none has begun."""
    op.add_column("rollouts", sa.Column("joined_to", sa.String(length=63), nullable=False, server_default=""))


def downgrade() -> None:
    """All of them look at everybody again."""
    op.drop_column("rollouts", "joined_to")
