"""API keys that expire, end and reach only so far; audit rows with request, before and after; idempotency keys."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_KEYS = ("id", "reach", "requests_per_s", "expires_ns", "revoked_ns", "used_ns")


def upgrade() -> None:
    """Every key that is there gets its id and stays good."""
    op.add_column("api_keys", sa.Column("id", sa.String(length=16), nullable=True))
    op.execute("UPDATE api_keys SET id = substr(sha256, 1, 16)")
    with op.batch_alter_table("api_keys") as table:
        table.alter_column("id", existing_type=sa.String(length=16), nullable=False)
        table.add_column(sa.Column("reach", sa.JSON(), nullable=True))
        table.add_column(sa.Column("requests_per_s", sa.Float(), nullable=True))
        table.add_column(sa.Column("expires_ns", sa.BigInteger(), nullable=True))
        table.add_column(sa.Column("revoked_ns", sa.BigInteger(), nullable=True))
        table.add_column(sa.Column("used_ns", sa.BigInteger(), nullable=True))
        table.create_unique_constraint(op.f("uq_api_keys_id"), ["id"])
    with op.batch_alter_table("audit") as table:
        table.add_column(sa.Column("request", sa.String(length=64), nullable=False, server_default=""))
        table.add_column(sa.Column("before", sa.JSON(), nullable=True))
        table.add_column(sa.Column("after", sa.JSON(), nullable=True))
        table.create_index(op.f("ix_audit_subject"), ["subject"])
    op.create_table(
        "idempotency",
        sa.Column("api_key", sa.String(length=16), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.Column("secret", sa.Boolean(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("headers", sa.JSON(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("api_key", "key", name=op.f("pk_idempotency")),
    )
    op.create_index(op.f("ix_idempotency_created_ns"), "idempotency", ["created_ns"])


def downgrade() -> None:
    """Keys that must not be used any more, or only for a part, are gone: the old schema could not say so."""
    op.execute("DELETE FROM api_keys WHERE revoked_ns IS NOT NULL OR expires_ns IS NOT NULL OR reach IS NOT NULL")
    op.drop_index(op.f("ix_idempotency_created_ns"), table_name="idempotency")
    op.drop_table("idempotency")
    with op.batch_alter_table("audit") as table:
        table.drop_index(op.f("ix_audit_subject"))
        for column in ("request", "before", "after"):
            table.drop_column(column)
    with op.batch_alter_table("api_keys") as table:
        table.drop_constraint(op.f("uq_api_keys_id"), type_="unique")
        for column in _KEYS:
            table.drop_column(column)
