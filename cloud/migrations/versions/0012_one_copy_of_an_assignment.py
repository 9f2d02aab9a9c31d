"""What is desired of a device stands in its envelope only: two copies of it did not fit a page of the database."""

import base64
import json

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

_DESIRED = sa.table(
    "desired",
    sa.column("device", sa.String),
    sa.column("envelope", sa.LargeBinary),
    sa.column("assignment", sa.LargeBinary),
)


def upgrade() -> None:
    """The envelope has it, to the byte."""
    op.drop_column("desired", "assignment")


def downgrade() -> None:
    """It is taken out of the envelope again."""
    op.add_column("desired", sa.Column("assignment", sa.LargeBinary(), nullable=True))
    bind = op.get_bind()
    for device, envelope in bind.execute(sa.select(_DESIRED.c.device, _DESIRED.c.envelope)).all():
        bind.execute(sa.update(_DESIRED).where(_DESIRED.c.device == device).values(assignment=_payload(envelope)))
    with op.batch_alter_table("desired") as table:
        table.alter_column("assignment", nullable=False)


def _payload(envelope: bytes) -> bytes:
    """What was sealed; nothing where no envelope can be read."""
    try:
        return base64.b64decode(json.loads(envelope)["payload"], validate=True)
    except (ValueError, LookupError, TypeError):
        return b""
