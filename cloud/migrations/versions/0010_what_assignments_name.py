"""What an assignment names stands beside it, so that nobody has to read all of them to know what a fleet needs."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_DESIRED = sa.table(
    "desired", sa.column("device", sa.String), sa.column("assignment", sa.LargeBinary), sa.column("wanted", sa.Text)
)


def upgrade() -> None:
    """Read every assignment once."""
    op.add_column("desired", sa.Column("wanted", sa.Text(), nullable=False, server_default="[]"))
    bind = op.get_bind()
    for device, assignment in bind.execute(sa.select(_DESIRED.c.device, _DESIRED.c.assignment)).all():
        bind.execute(sa.update(_DESIRED).where(_DESIRED.c.device == device).values(wanted=_wanted(assignment)))


def downgrade() -> None:
    """It is read from the assignments again."""
    op.drop_column("desired", "wanted")


def _wanted(assignment: bytes) -> str:
    """As the hub writes it; nothing where no assignment can be read."""
    try:
        slots = json.loads(assignment)["slots"]
        named = sorted({(one["model"], one["version"], one["variant"]) for one in slots})
    except (ValueError, LookupError, TypeError):
        named = []
    return json.dumps(named, separators=(",", ":"), ensure_ascii=False)
