# ruff: noqa: S608 - every part of these statements is a constant of ours
"""What no transaction of the hub may do, as conditions on single rows: the database itself looks at what is touched.

Each law is a trigger of the simulated database, so it costs what is changed and nothing else. `OLD` and `NEW` are the
row before and after.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from cloud.core.rollout import ACTIVE, RolloutState
from cloud.core.rollout.members import Status
from wire.messages import Outcome

BROKEN, TOUCHED, ASSIGNED = "sim_broken", "sim_touched", "sim_assigned"
"""Temporary tables: laws that were broken; rollouts whose members changed; rollouts that assigned somebody."""


@dataclass(frozen=True, slots=True)
class Law:
    """When `of` (columns) of a row of `table` change, `never` must not hold. `who`: an expression for whom."""

    text: str
    table: str
    never: str
    who: str
    of: str = ""
    on: str = "UPDATE"


_ROLLOUT = "(SELECT {} FROM main.rollouts WHERE id = NEW.rollout)"
_STARTS = f"NEW.status = '{Status.IN_FLIGHT}' AND OLD.status <> '{Status.IN_FLIGHT}'"
_MEMBER = "NEW.rollout || ' ' || NEW.device"
_REPEATED = (
    f"NEW.attempt = OLD.attempt + 1 AND NEW.reason LIKE 'attempt ' || OLD.attempt || ': {Outcome.ROLLED_BACK}:%'"
)
"""It went back later, and the plan has such devices try again."""
_OPEN = ", ".join(f"'{state}'" for state in sorted(ACTIVE))
_OVER = f"OLD.state IN ('{RolloutState.ABORTED}', '{RolloutState.SUCCEEDED}')"
_NAMED = f"NEW.state IN ('{RolloutState.HALTED}', '{RolloutState.WAITING}', '{RolloutState.PAUSED}')"
_ELSEWHERE = (
    "EXISTS (SELECT 1 FROM main.members other JOIN main.rollouts held ON held.id = other.rollout "
    "WHERE other.device = NEW.device AND other.rollout <> NEW.rollout "
    f"AND held.state IN ({_OPEN}) AND held.slot = {_ROLLOUT.format('slot')})"
)

LAWS = (
    Law("a desired state was issued under a used sequence", "devices",
        "NEW.desired_sequence <= OLD.desired_sequence AND NEW.decommissioned_ns IS NULL", "NEW.name",
        of="desired_sequence"),
    Law("an older report replaced a newer one", "devices", "NEW.reported_seq < OLD.reported_seq", "NEW.name",
        of="reported_seq"),
    Law("the accepted sequence fell", "devices", "NEW.reported_sequence < OLD.reported_sequence", "NEW.name",
        of="reported_sequence"),
    Law("the mark of telemetry fell", "devices", "NEW.telemetry_seq < OLD.telemetry_seq", "NEW.name",
        of="telemetry_seq"),
    Law("a measurement was overwritten by another", "telemetry_points", "NEW.content <> OLD.content", "NEW.device"),
    Law("trust metadata went back", "trust_metadata",
        "NEW.version < (SELECT max(version) FROM main.trust_metadata WHERE role = NEW.role)", "NEW.role", on="INSERT"),
    Law("the number of versions fell", "models", "NEW.last_version < OLD.last_version", "NEW.name"),
    Law("a device was assigned before its wave", "members",
        f"{_STARTS} AND NEW.wave > {_ROLLOUT.format('wave')}", _MEMBER, of="status"),
    Law("a device was assigned by a rollout that does not run", "members",
        f"{_STARTS} AND {_ROLLOUT.format('state')} <> '{RolloutState.RUNNING}'", _MEMBER, of="status"),
    Law("a held device was assigned", "members",
        f"{_STARTS} AND {_ROLLOUT.format('reverts')} IS NULL AND EXISTS "
        "(SELECT 1 FROM main.devices WHERE name = NEW.device AND held_ns IS NOT NULL)", _MEMBER, of="status"),
    Law("a device was assigned in a halted fleet", "members",
        f"{_STARTS} AND EXISTS (SELECT 1 FROM main.fleet_halt)", _MEMBER, of="status"),
    Law("a device belongs to two active rollouts", "members",
        f"{_STARTS} AND {_ROLLOUT.format('reverts')} IS NULL AND {_ELSEWHERE}", _MEMBER, of="status"),
    Law("a device joined a wave that is past", "members",
        f"NEW.wave < {_ROLLOUT.format('wave')}", _MEMBER, on="INSERT"),
    Law("an execution was handed out twice", "members",
        f"{_STARTS} AND NEW.execution = OLD.execution", _MEMBER, of="status"),
    Law("more attempts than the plan allows", "members",
        f"NEW.attempt > max(1, json_extract({_ROLLOUT.format('plan')}, '$.retry.attempts'))", _MEMBER, of="attempt"),
    Law("a failure was acknowledged before it happened", "members",
        f"NEW.acknowledged AND NEW.status <> '{Status.ENDED}'", _MEMBER, of="acknowledged"),
    Law("a success was taken back", "members",
        f"OLD.outcome = '{Outcome.SUCCEEDED}' AND coalesce(NEW.outcome, '') NOT IN "
        f"('{Outcome.SUCCEEDED}', '{Outcome.ROLLED_BACK}', '{Outcome.UNABLE_TO_ROLL_BACK}') AND NOT ({_REPEATED})",
        _MEMBER, of="outcome"),
    Law("two waves opened at once", "rollouts", "NEW.wave <> OLD.wave AND NEW.wave <> OLD.wave + 1", "NEW.id",
        of="wave"),
    Law("a wave opened before everybody of the one before had been asked", "rollouts",
        "NEW.wave > OLD.wave AND EXISTS (SELECT 1 FROM main.members WHERE rollout = NEW.id AND wave = OLD.wave "
        f"AND status = '{Status.WAITING}')", "NEW.id", of="wave"),
    Law("a rollout that was over goes on", "rollouts", f"{_OVER} AND NEW.state <> OLD.state", "NEW.id", of="state"),
    Law("a rollout waits and does not say for what", "rollouts", f"{_NAMED} AND NEW.reason = ''", "NEW.id",
        of="state, reason"),
    Law("more repetitions than the budget of the plan", "rollouts",
        "NEW.retries > json_extract(NEW.plan, '$.retry.budget')", "NEW.id", of="retries"),
    Law("a federated run that had ended goes on", "federated_runs",
        "OLD.state NOT IN ('running', 'deriving') AND NEW.state <> OLD.state", "NEW.id", of="state"),
    Law("a federated run did not succeed and does not say why", "federated_runs",
        "NEW.state IN ('refused', 'failed') AND NEW.reason = ''", "NEW.id", of="state, reason"),
    Law("a federated round counts a device twice", "federated_rounds",
        "NEW.clients > (SELECT count(*) FROM main.devices WHERE federated)",
        "NEW.run || ' ' || NEW.round", on="INSERT"),
)  # fmt: skip


def statements() -> Iterator[str]:
    """What has to be run once on the connection of the database."""
    for table, column in ((BROKEN, "text"), (TOUCHED, "rollout PRIMARY KEY"), (ASSIGNED, "rollout PRIMARY KEY")):
        yield f"CREATE TEMP TABLE {table} ({column})"
    for number, law in enumerate(LAWS):
        of = f" OF {law.of}" if law.of else ""
        message = f"'{law.text}: ' || {law.who}"
        yield (
            f"CREATE TEMP TRIGGER sim_law_{number} AFTER {law.on}{of} ON main.{law.table} WHEN {law.never} "
            f"BEGIN INSERT INTO {BROKEN} VALUES ({message}); END"
        )
    for on, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
        yield (
            f"CREATE TEMP TRIGGER sim_touched_{on} AFTER {on} ON main.members "
            f"BEGIN INSERT OR IGNORE INTO {TOUCHED} VALUES ({row}.rollout); END"
        )
    yield (
        f"CREATE TEMP TRIGGER sim_assigned_now AFTER UPDATE OF status ON main.members WHEN {_STARTS} "
        f"BEGIN INSERT OR IGNORE INTO {ASSIGNED} VALUES (NEW.rollout); END"
    )


def leftovers() -> Iterator[str]:
    """What undoes that."""
    names = [f"sim_law_{number}" for number in range(len(LAWS))]
    names += [f"sim_touched_{on}" for on in ("INSERT", "UPDATE", "DELETE")]
    for name in (*names, "sim_assigned_now"):
        yield f"DROP TRIGGER temp.{name}"
    for table in (BROKEN, TOUCHED, ASSIGNED):
        yield f"DROP TABLE temp.{table}"
