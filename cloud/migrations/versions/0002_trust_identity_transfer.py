"""Trust metadata, certificates and revocation, telemetry over time, deltas."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_DEVICES = ("session", "clone_suspected_ns", "revoked_ns", "certificate_serial", "certificate_expires_ns")


def upgrade() -> None:
    """Add what a device that cannot be bricked needs."""
    with op.batch_alter_table("devices") as table:
        table.add_column(sa.Column("session", sa.String(length=64), nullable=False, server_default=""))
        table.add_column(sa.Column("clone_suspected_ns", sa.BigInteger(), nullable=True))
        table.add_column(sa.Column("revoked_ns", sa.BigInteger(), nullable=True))
        table.add_column(sa.Column("certificate_serial", sa.String(length=40), nullable=True))
        table.add_column(sa.Column("certificate_expires_ns", sa.BigInteger(), nullable=True))
    with op.batch_alter_table("claims") as table:
        table.add_column(sa.Column("replaces", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("retained") as table:
        table.add_column(sa.Column("used_ns", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "certificates",
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("pem", sa.String(length=8192), nullable=False),
        sa.Column("issued_ns", sa.BigInteger(), nullable=False),
        sa.Column("expires_ns", sa.BigInteger(), nullable=False),
        sa.Column("revoked_ns", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["device"], ["devices.name"], name=op.f("fk_certificates_device_devices")),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_certificates")),
    )
    op.create_index(op.f("ix_certificates_device"), "certificates", ["device"])
    op.create_table(
        "trust_metadata",
        sa.Column("role", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("expires_ns", sa.BigInteger(), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("role", "version", name=op.f("pk_trust_metadata")),
    )
    op.create_table(
        "telemetry_points",
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("received_ns", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.name"], name=op.f("fk_telemetry_points_device_devices")),
        sa.PrimaryKeyConstraint("device", "seq", name=op.f("pk_telemetry_points")),
    )
    op.create_index(op.f("ix_telemetry_points_received_ns"), "telemetry_points", ["received_ns"])
    op.create_table(
        "deltas",
        sa.Column("base", sa.String(length=64), nullable=False),
        sa.Column("target", sa.String(length=64), nullable=False),
        sa.Column("object", sa.JSON(), nullable=True),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("base", "target", name=op.f("pk_deltas")),
    )


def downgrade() -> None:
    """Remove it again."""
    op.drop_index(op.f("ix_telemetry_points_received_ns"), table_name="telemetry_points")
    for table in ("deltas", "telemetry_points", "trust_metadata"):
        op.drop_table(table)
    op.drop_index(op.f("ix_certificates_device"), table_name="certificates")
    op.drop_table("certificates")
    for name, columns in (("retained", ("used_ns",)), ("claims", ("replaces",)), ("devices", _DEVICES)):
        with op.batch_alter_table(name) as batch:
            for column in columns:
                batch.drop_column(column)
