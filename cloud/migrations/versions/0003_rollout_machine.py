"""Rollouts by counters: waves with their counts, retries, approval, reverts, gates as expressions."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_ROLLOUTS = sa.table("rollouts", sa.column("id"), sa.column("plan", sa.JSON()), sa.column("evidence", sa.JSON()))
_INDEXES = {
    "ix_members_next": ("rollout", "status", "wave", "place"),
    "ix_members_due": ("rollout", "status", "due_ns"),
    "ix_members_assigned": ("rollout", "assigned_ns"),
    "ix_members_outcome": ("rollout", "outcome", "measured"),
}
_NUMBERS = ("planned", "waiting", "in_flight", "committed", "failed", "acknowledged")


def upgrade() -> None:
    """Counts of what is there are made when the rollout is next looked after."""
    with op.batch_alter_table("rollouts") as table:
        table.add_column(sa.Column("approved", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("retries", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("ticked_ns", sa.BigInteger(), nullable=False, server_default="0"))
        table.add_column(sa.Column("reverts", sa.String(length=64), nullable=True))
    with op.batch_alter_table("members") as table:
        table.add_column(sa.Column("place", sa.BigInteger(), nullable=False, server_default="0"))
        table.add_column(sa.Column("label_group", sa.String(length=255), nullable=False, server_default=""))
        table.add_column(sa.Column("status", sa.String(length=16), nullable=False, server_default="waiting"))
        table.add_column(sa.Column("due_ns", sa.BigInteger(), nullable=False, server_default="0"))
        table.add_column(sa.Column("attempt", sa.Integer(), nullable=False, server_default="1"))
        table.add_column(sa.Column("figures", sa.JSON(), nullable=False, server_default="{}"))
        table.add_column(sa.Column("measured", sa.Boolean(), nullable=False, server_default=sa.false()))
        table.add_column(sa.Column("previous", sa.JSON(), nullable=True))
    op.execute("UPDATE members SET status = 'ended' WHERE outcome IS NOT NULL")
    op.execute("UPDATE members SET status = 'in_flight' WHERE outcome IS NULL AND assigned_ns IS NOT NULL")
    for name, columns in _INDEXES.items():
        op.create_index(name, "members", columns)
    op.create_table(
        "rollout_waves",
        sa.Column("rollout", sa.String(length=64), nullable=False),
        sa.Column("wave", sa.Integer(), autoincrement=False, nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in _NUMBERS),
        sa.Column("samples", sa.JSON(), nullable=False),
        sa.Column("controls", sa.JSON(), nullable=False),
        sa.Column("ended_ns", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name=op.f("fk_rollout_waves_rollout_rollouts")),
        sa.PrimaryKeyConstraint("rollout", "wave", name=op.f("pk_rollout_waves")),
    )
    op.create_table(
        "rollout_bystanders",
        sa.Column("rollout", sa.String(length=64), nullable=False),
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name=op.f("fk_rollout_bystanders_rollout_rollouts")),
        sa.ForeignKeyConstraint(["device"], ["devices.name"], name=op.f("fk_rollout_bystanders_device_devices")),
        sa.PrimaryKeyConstraint("rollout", "device", name=op.f("pk_rollout_bystanders")),
    )
    _each_plan(_expressions)


def downgrade() -> None:
    """Gates become shares again; what cannot be said so is dropped with the evidence."""
    _each_plan(_shares)
    op.drop_table("rollout_bystanders")
    op.drop_table("rollout_waves")
    for name in _INDEXES:
        op.drop_index(name, table_name="members")
    with op.batch_alter_table("members") as table:
        for name in ("place", "label_group", "status", "due_ns", "attempt", "figures", "measured", "previous"):
            table.drop_column(name)
    with op.batch_alter_table("rollouts") as table:
        for name in ("approved", "retries", "ticked_ns", "reverts"):
            table.drop_column(name)


def _each_plan(change: Any) -> None:
    connection = op.get_bind()
    for row in connection.execute(sa.select(_ROLLOUTS.c.id, _ROLLOUTS.c.plan)).all():
        plan = change(connection, row.id, dict(row.plan))
        values = {"plan": plan, "evidence": {}}
        connection.execute(sa.update(_ROLLOUTS).where(_ROLLOUTS.c.id == row.id).values(values))


def _expressions(connection: sa.Connection, rollout: str, plan: dict[str, Any]) -> dict[str, Any]:
    """A share was judged over ended executions once `minimum_sample` were there."""
    bystanders = sa.table("rollout_bystanders", sa.column("rollout"), sa.column("device"))
    for device in plan.pop("left_alone", ()):
        connection.execute(sa.insert(bystanders).values(rollout=rollout, device=device))
    plan.pop("fleet", None)
    limit = {"rollout": rollout, "limit": int((plan.get("total_timeout_s", 600.0) + 30.0) * 1e9)}
    due = "UPDATE members SET due_ns = assigned_ns + :limit WHERE rollout = :rollout AND status = 'in_flight'"
    connection.execute(sa.text(due), limit)
    asked = plan.get("gates") or {}
    sample = asked.get("minimum_sample", 1)
    plan["gates"] = [
        {"expression": f"{name} >= {100 * asked.get(name, 1.0):.10g} %", "minimum_sample": sample}
        for name in ("commit_rate", "golden_agreement")
    ]
    return plan


def _shares(connection: sa.Connection, rollout: str, plan: dict[str, Any]) -> dict[str, Any]:
    bystanders = sa.text("SELECT device FROM rollout_bystanders WHERE rollout = :rollout ORDER BY device")
    plan["left_alone"] = list(connection.execute(bystanders, {"rollout": rollout}).scalars())
    members = sa.text("SELECT count(*) FROM members WHERE rollout = :rollout")
    plan["fleet"] = connection.execute(members, {"rollout": rollout}).scalar_one() + len(plan["left_alone"])
    plan["gates"] = {"commit_rate": 1.0, "golden_agreement": 1.0, "minimum_sample": 1}
    for name in ("evidence_timeout_s", "rate", "max_in_flight", "disruption", "retry", "window"):
        plan.pop(name, None)
    plan["waves"] = [{"count": wave.get("count"), "percent": wave.get("percent")} for wave in plan.get("waves", ())]
    return plan
