"""Rollouts: each with its plan, its members and the counts of its waves."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, ForeignKey, Index, Integer, String, Table

from cloud.tables.base import ZERO, metadata

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("model", String(63), nullable=False),
    Column("version", Integer, nullable=False),
    Column("slot", String(63), nullable=False),
    Column("selector", JSON, nullable=False),
    Column("plan", JSON, nullable=False),  # core.rollout.Plan
    Column("state", String(32), nullable=False),  # core.rollout.RolloutState
    Column("wave", Integer, nullable=False),  # index of the wave that is open now
    Column("reason", String(1000), nullable=False, default=""),
    Column("evidence", JSON, nullable=False),  # newest verdict of each gate of each wave: core.gates.judge.Verdict
    Column("approved", Integer, nullable=False, default=0),  # the last wave that a person has let open
    Column("retries", Integer, nullable=False, default=0),  # attempts repeated so far, of the plan's budget
    Column("asked", JSON, nullable=False, default=[]),  # [[at_ns, devices], ...]: assignments of the last minute
    Column("measured_to", String(63), nullable=False, default=""),  # the device that figures were last looked for at
    Column("joined_to", String(63), nullable=False, default=""),  # the device that late joiners were last looked for at
    Column("reconsidered_to", String(63), nullable=False, default=""),  # the rejected device that was last looked at
    Column("packed", Integer, nullable=False, default=-1),  # the last wave for which deltas are decided
    Column("ticked_ns", BigInteger, nullable=False, default=0),  # when it was last looked after
    Column("reverts", String(64)),  # the rollout that it undoes; its devices are fixed
    Column("created_ns", BigInteger, nullable=False),
    Column("updated_ns", BigInteger, nullable=False),
    Column("finished_ns", BigInteger),
    Index("ix_rollouts_state", "state"),
)

members = Table(  # one device in one rollout: its wave, its execution and how that ended
    "members",
    metadata,
    Column("rollout", ForeignKey("rollouts.id"), primary_key=True),
    Column("device", ForeignKey("devices.name"), primary_key=True),
    Column("wave", Integer, nullable=False),
    Column("place", BigInteger, nullable=False, default=0),  # core.rollout.waves.place
    Column("label_group", String(255), nullable=False, default=""),  # value of the plan's disruption label
    Column("status", String(16), nullable=False, default="waiting"),  # core.rollout.members.Status
    Column("due_ns", BigInteger, nullable=False, default=0),  # waiting: not before; in flight: overdue from then on
    Column("attempt", Integer, nullable=False, default=1),
    Column("figures", JSON, nullable=False, default={}),  # {"now" | "before" | "control": {fact: value}}
    Column("measured", Boolean, nullable=False, default=False),  # nothing is left to measure as things stand
    Column("previous", JSON),  # {"model", "version"} that it ran when it was assigned
    Column("execution", String(64), nullable=False, default=""),  # "" = not assigned yet
    Column("outcome", String(32)),  # wire.messages.Outcome; NULL = not ended
    Column("reason", String(500), nullable=False, default=""),
    Column("golden_matched", Integer, nullable=False, default=0),
    Column("golden_total", Integer, nullable=False, default=0),
    Column("acknowledged", Boolean, nullable=False, default=False),  # a person has seen its end and its evidence
    Column("assigned_ns", BigInteger),
    Column("finished_ns", BigInteger),
    Index("ix_members_device", "device"),
    Index("ix_members_execution", "execution"),
    Index("ix_members_next", "rollout", "status", "wave", "place"),
    Index("ix_members_due", "rollout", "status", "due_ns"),
    Index("ix_members_outcome", "rollout", "outcome", "measured", "device"),
)

rollout_waves = Table(  # the counts of each wave, kept up to date with every change of a member: core.rollout.members
    "rollout_waves",
    metadata,
    Column("rollout", ForeignKey("rollouts.id"), primary_key=True),
    Column("wave", Integer, primary_key=True, autoincrement=False),
    Column("planned", Integer, nullable=False),
    Column("waiting", Integer, nullable=False),
    Column("in_flight", Integer, nullable=False),
    Column("committed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("acknowledged", Integer, nullable=False),
    Column("accepted", Integer, nullable=False, default=0),
    Column("samples", JSON, nullable=False),  # per rule of the gates: [n, total, squares]
    Column("controls", JSON, nullable=False),
    Column("ended_ns", BigInteger, nullable=False, default=0),  # when its last execution ended
)
BUSY = rollout_waves.c.in_flight > ZERO
"""Are devices of this wave under way?"""
Index("ix_rollout_waves_busy", rollout_waves.c.rollout, sqlite_where=BUSY, postgresql_where=BUSY)

rollout_bystanders = Table(  # devices beyond the last wave when a rollout began: they are no late joiners
    "rollout_bystanders",
    metadata,
    Column("rollout", ForeignKey("rollouts.id"), primary_key=True),
    Column("device", ForeignKey("devices.name"), primary_key=True),
)
