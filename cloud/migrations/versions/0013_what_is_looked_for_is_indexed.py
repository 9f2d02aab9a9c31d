"""What the hub looks for again and again is found by an index: devices that are behind or ahead, work under way.

The sequence of a device's document stands beside the one that it has accepted, where an index can compare them. SQLite
takes an index that holds only some rows where a query says the same, to the letter.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

HAS_LESS = "reported_sequence < desired_sequence"
BEHIND_SQLITE = sa.text(f"online = 1 AND {HAS_LESS}")
BEHIND_POSTGRESQL = sa.text(f"online AND {HAS_LESS}")
AHEAD = sa.text("desired_sequence > 0 AND reported_sequence > desired_sequence")
BUSY = sa.text("in_flight > 0")


def upgrade() -> None:
    """Indexes; and sequences move from the documents to the devices."""
    op.add_column("devices", sa.Column("desired_sequence", sa.BigInteger(), nullable=False, server_default="0"))
    held = "SELECT sequence FROM desired WHERE desired.device = devices.name"
    op.execute(f"UPDATE devices SET desired_sequence = ({held}) WHERE EXISTS ({held})")  # noqa: S608 - constants
    op.drop_column("desired", "sequence")
    op.add_column("rollouts", sa.Column("reconsidered_to", sa.String(length=63), nullable=False, server_default=""))
    op.add_column("rollouts", sa.Column("packed", sa.Integer(), nullable=False, server_default="-1"))
    op.execute("UPDATE members SET measured = false WHERE outcome = 'rejected' AND assigned_ns IS NULL")
    op.create_index(
        "ix_devices_behind", "devices", ["name"], sqlite_where=BEHIND_SQLITE, postgresql_where=BEHIND_POSTGRESQL
    )
    op.create_index("ix_devices_ahead", "devices", ["name"], sqlite_where=AHEAD, postgresql_where=AHEAD)
    op.create_index("ix_rollout_waves_busy", "rollout_waves", ["rollout"], sqlite_where=BUSY, postgresql_where=BUSY)
    op.create_index("ix_slots_phase", "slots", ["phase"])
    op.create_index("ix_rollouts_state", "rollouts", ["state"])
    op.create_index("ix_jobs_state", "jobs", ["state"])


def downgrade() -> None:
    """Whoever looks goes over everything again."""
    op.drop_index("ix_jobs_state", "jobs")
    op.drop_index("ix_rollouts_state", "rollouts")
    op.drop_index("ix_slots_phase", "slots")
    op.drop_index("ix_rollout_waves_busy", "rollout_waves")
    op.drop_index("ix_devices_ahead", "devices")
    op.drop_index("ix_devices_behind", "devices")
    op.drop_column("rollouts", "packed")
    op.drop_column("rollouts", "reconsidered_to")
    op.add_column("desired", sa.Column("sequence", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute(
        "UPDATE desired SET sequence = (SELECT desired_sequence FROM devices WHERE devices.name = desired.device)"
    )
    op.drop_column("devices", "desired_sequence")
