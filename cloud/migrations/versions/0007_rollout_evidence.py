"""Rollouts: assignments by the minute, figures looked for in turn, evidence that a person has accepted; how far a
model's production ever was."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_UNDER_WAY = "('running', 'waiting_for_approval', 'paused', 'halted')"


def _columns() -> dict[str, tuple[sa.Column[Any], ...]]:
    """New columns of tables that are there."""
    return {
        "rollouts": (
            sa.Column("asked", sa.JSON(), nullable=False, server_default="[]"),
            sa.Column("measured_to", sa.String(length=63), nullable=False, server_default=""),
        ),
        "rollout_waves": (sa.Column("accepted", sa.Integer(), nullable=False, server_default="0"),),
        "models": (sa.Column("furthest", sa.Integer(), nullable=False, server_default="0"),),
    }


def upgrade() -> None:
    """Add them; rollouts under way are counted anew, since their counts mean more now."""
    for name, columns in _columns().items():
        for column in columns:
            op.add_column(name, column)
    op.execute("UPDATE models SET furthest = coalesce(production, 0)")
    _count_anew()
    op.drop_index("ix_members_assigned", table_name="members")
    op.drop_index("ix_members_outcome", table_name="members")
    op.create_index("ix_members_outcome", "members", ["rollout", "outcome", "measured", "device"])


def downgrade() -> None:
    """Remove them again."""
    op.drop_index("ix_members_outcome", table_name="members")
    op.create_index("ix_members_outcome", "members", ["rollout", "outcome", "measured"])
    op.create_index("ix_members_assigned", "members", ["rollout", "assigned_ns"])
    for name, columns in _columns().items():
        for column in columns:
            op.drop_column(name, column.name)
    _count_anew()


def _count_anew() -> None:
    op.execute(
        f"DELETE FROM rollout_waves WHERE rollout IN (SELECT id FROM rollouts WHERE state IN {_UNDER_WAY})"  # noqa: S608
    )
