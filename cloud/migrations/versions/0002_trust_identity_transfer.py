"""Trust metadata, certificates and revocation, telemetry over time, deltas."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_DEVICES = ("sessions", "clone_suspected_ns", "revoked_ns", "certificate_serial", "certificate_expires_ns")


def upgrade() -> None:
    """Add what a device that cannot be bricked needs."""
    with op.batch_alter_table("devices") as table:
        table.add_column(sa.Column("sessions", sa.JSON(), nullable=True))
        table.add_column(sa.Column("clone_suspected_ns", sa.BigInteger(), nullable=True))
        table.add_column(sa.Column("revoked_ns", sa.BigInteger(), nullable=True))
        table.add_column(sa.Column("certificate_serial", sa.String(length=40), nullable=True))
        table.add_column(sa.Column("certificate_expires_ns", sa.BigInteger(), nullable=True))
    with op.batch_alter_table("desired") as table:
        table.add_column(sa.Column("signer", sa.String(length=16), nullable=False, server_default=""))
    with op.batch_alter_table("claims") as table:
        table.add_column(sa.Column("replaces", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("retained") as table:
        table.add_column(sa.Column("used_ns", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "certificates",
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("pem", sa.String(length=8192), nullable=False),
        sa.Column("key_sha256", sa.String(length=64), nullable=False),
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
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
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
    _sign_anew()
    with op.batch_alter_table("versions") as table:
        table.alter_column("envelope_ref", new_column_name="release_ref", existing_type=sa.JSON())
    op.drop_table("publisher_keys")


def _sign_anew() -> None:
    """What one kind of signature released waits for the other kind."""
    op.execute("UPDATE versions SET state = 'awaiting_signature', envelope_ref = NULL WHERE state = 'released'")
    op.execute("UPDATE signing_requests SET state = 'pending', decided_ns = NULL WHERE state = 'signed'")


def downgrade() -> None:
    """Remove it again."""
    op.create_table(
        "publisher_keys",
        sa.Column("public_key", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("added_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("public_key", name=op.f("pk_publisher_keys")),
    )
    with op.batch_alter_table("versions") as versions:
        versions.alter_column("release_ref", new_column_name="envelope_ref", existing_type=sa.JSON())
    _sign_anew()
    op.drop_index(op.f("ix_telemetry_points_received_ns"), table_name="telemetry_points")
    for table in ("deltas", "telemetry_points", "trust_metadata"):
        op.drop_table(table)
    op.drop_index(op.f("ix_certificates_device"), table_name="certificates")
    op.drop_table("certificates")
    for name, columns in (
        ("retained", ("used_ns",)),
        ("claims", ("replaces",)),
        ("desired", ("signer",)),
        ("devices", _DEVICES),
    ):
        with op.batch_alter_table(name) as batch:
            for column in columns:
                batch.drop_column(column)
