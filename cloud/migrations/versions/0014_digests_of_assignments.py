"""An assignment has a digest beside its sequence: two with the same sequence are told apart.

What stands in `desired` gets its own from the envelope; what a device accepted, it tells when its agent can.
"""

import base64
import hashlib
import json

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

AT_ONCE = 500
OF_BEFORE = sa.text("desired_sequence > 0 AND reported_sequence > desired_sequence")
ANOTHER = "reported_sequence = desired_sequence AND reported_digest != '' AND reported_digest != desired_digest"
AHEAD = sa.text(f"desired_sequence > 0 AND (reported_sequence > desired_sequence OR {ANOTHER})")
DIGITS = 16


def upgrade() -> None:
    """Two columns; the index of devices that are ahead looks at them."""
    for name in ("desired_digest", "reported_digest"):
        op.add_column("devices", sa.Column(name, sa.String(length=DIGITS), nullable=False, server_default=""))
    desired = sa.table("desired", sa.column("device"), sa.column("envelope", sa.LargeBinary))
    devices = sa.table("devices", sa.column("name"), sa.column("desired_digest"))
    conn, after = op.get_bind(), ""
    while rows := conn.execute(
        sa.select(desired).where(desired.c.device > after).order_by(desired.c.device).limit(AT_ONCE)
    ).all():
        for row in rows:
            theirs = devices.update().where(devices.c.name == row.device)
            conn.execute(theirs.values(desired_digest=_digest(bytes(row.envelope))))
        after = rows[-1].device
    op.drop_index("ix_devices_ahead", "devices")
    op.create_index("ix_devices_ahead", "devices", ["name"], sqlite_where=AHEAD, postgresql_where=AHEAD)


def downgrade() -> None:
    """Numbers alone."""
    op.drop_index("ix_devices_ahead", "devices")
    for name in ("desired_digest", "reported_digest"):
        op.drop_column("devices", name)
    op.create_index("ix_devices_ahead", "devices", ["name"], sqlite_where=OF_BEFORE, postgresql_where=OF_BEFORE)


def _digest(envelope: bytes) -> str:
    """As `wire.assignment.assignment_digest` has it. What cannot be read has none: the device is told anew."""
    try:
        payload = base64.b64decode(json.loads(envelope)["payload"])
    except (ValueError, KeyError, TypeError):
        return ""
    return hashlib.sha256(payload).hexdigest()[:DIGITS]
