"""Uploaded artefacts."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0002"


def upgrade() -> None:
    """Add what the registry and the operators of devices need."""
    op.create_table(
        "artefacts",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("uploaded_by", sa.String(length=100), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["sha256"], ["objects.sha256"], name=op.f("fk_artefacts_sha256_objects")),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_artefacts")),
    )
    with op.batch_alter_table("models") as table:
        table.add_column(sa.Column("promotion", sa.JSON(), nullable=True))
        table.add_column(sa.Column("production", sa.Integer(), nullable=True))
    with op.batch_alter_table("versions") as table:
        table.add_column(sa.Column("retired", sa.String(length=500), nullable=False, server_default=""))


def downgrade() -> None:
    """Remove it again."""
    for name, columns in (("models", ("promotion", "production")), ("versions", ("retired",))):
        with op.batch_alter_table(name) as table:
            for column in columns:
                table.drop_column(column)
    op.drop_table("artefacts")
