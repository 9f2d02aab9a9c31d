"""What must come true once faults have stopped, and what must be so then.

The twin converges: what the hub wants is what the device has accepted, what the device is is what the hub knows, every
execution has ended, and every rollout is over or waits for something that has a name. Then counters agree exactly: each
message was taken once, each prediction counted once.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, Row, select

from cloud.core.rollout import RolloutState
from cloud.core.rollout.members import Status
from cloud.service.director import assignment_in
from cloud.tables import ENROLLED, desired, devices, federated_runs, members, rollouts, slots, stats, telemetry_points
from edge_agent.core.slot import AT_REST
from edge_agent.core.stats import Tally
from edge_agent.core.windows import spent
from edge_agent.service.courier import BOOT_SHIFT
from simulator.device import Device
from simulator.fleet import Fleet
from wire.assignment import Assignment
from wire.codec import decode
from wire.messages import Outcome, Telemetry

_RUNNING = select(rollouts.c.id).where(rollouts.c.state == RolloutState.RUNNING).order_by(rollouts.c.id)
_LEARNING = select(federated_runs.c.id, federated_runs.c.state).where(
    federated_runs.c.state.in_(("running", "deriving"))
)
_FLYING = select(members.c.rollout, members.c.device).where(members.c.status == Status.IN_FLIGHT)
_FAILED = (Outcome.FAILED_NO_CHANGE, Outcome.TIMED_OUT, Outcome.CANCELLED, Outcome.REJECTED)


def outstanding(fleet: Fleet) -> list[str]:
    """What has not come to rest yet; empty: everything has."""

    def look(conn: Connection) -> list[str]:
        known = fleet.devices
        return _unsettled(conn) or list(_disagreements(conn, known)) or list(_holes(conn, known))

    return fleet.hub.look(look)


def _unsettled(conn: Connection) -> list[str]:
    found = [f"rollout {name} is running" for name in conn.execute(_RUNNING).scalars()]
    found += [f"federated run {row.id} is {row.state}" for row in conn.execute(_LEARNING)]
    found += [f"{row.device} is under way in {row.rollout}" for row in conn.execute(_FLYING)]
    return found


def _disagreements(conn: Connection, fleet: Iterable[Device]) -> Iterator[str]:
    known = {row.name: row for row in conn.execute(select(devices).where(ENROLLED))}
    wanted = {row.device: assignment_in(row.envelope) for row in conn.execute(select(desired))}
    told: dict[str, dict[str, Row[Any]]] = defaultdict(dict)
    for row in conn.execute(select(slots)):
        told[row.device][row.slot] = row
    counted: dict[str, dict[tuple[str, int, str], Row[Any]]] = defaultdict(dict)
    for row in conn.execute(select(stats)):
        counted[row.device][row.model, row.version, row.variant] = row
    for device in fleet:
        if device.name not in known:
            yield f"{device.name} has not enrolled"
            continue
        if not known[device.name].online:
            yield f"{device.name} is offline"
        if device.claim.credential == "certificate" and not device.certificate:
            yield f"{device.name} is not let in with its certificate"
        yield from _twin(device, known[device.name], wanted.get(device.name), told[device.name])
        yield from _counters(device, counted[device.name])


def _twin(device: Device, row: Row[Any], wanted: Assignment | None, told: Mapping[str, Row[Any]]) -> Iterator[str]:
    record, sequence = device.record(), wanted.sequence if wanted else 0
    for slot in wanted.slots if wanted else ():
        if record.slot(slot.slot).desired not in (slot, spent(slot)):
            yield f"{device.name}: slot {slot.slot} works on another order than the hub's"
    if not sequence == record.sequence == row.reported_sequence:
        yield f"{device.name} accepted {record.sequence} of {sequence}, the hub knows of {row.reported_sequence}"
    for name, state in record.slots.items():
        if state.phase not in AT_REST:
            yield f"{device.name}: slot {name} is {state.phase}"
            continue
        here, version = told.get(name), state.current.installed.version if state.current else None
        if here is None or (here.phase, here.version, here.outcome) != (state.phase, version, state.outcome):
            yield f"{device.name}: slot {name} is {state.phase} with version {version}, and the hub does not know"


def _counters(device: Device, counted: Mapping[tuple[str, int, str], Row[Any]]) -> Iterator[str]:
    for tally in device.captures.tallies:
        variant = tally.variant
        row = counted.get((variant.model, variant.version, variant.variant))
        if row is None or _numbers(row) != _numbers(tally):
            yield f"{device.name}: the hub's counters of version {variant.version} are not the device's"


def _numbers(counts: "Row[Any] | Tally") -> tuple[int, int, int]:
    return counts.predictions, counts.feedback, counts.correct


def wrong_at_rest(conn: Connection, fleet: Iterable[Device]) -> Iterator[str]:
    """What must not be found at rest: repetitions that nobody counted, outcomes that the devices do not bear out."""
    for row in conn.execute(select(rollouts).order_by(rollouts.c.created_ns)):
        repeated = conn.execute(select(members.c.attempt).where(members.c.rollout == row.id)).scalars().all()
        if sum(attempt - 1 for attempt in repeated) > row.retries:
            yield f"rollout {row.id} counts {row.retries} repetitions, its members {sum(repeated) - len(repeated)}"
    yield from _untrue_outcomes(conn, {device.name: device for device in fleet})


def _holes(conn: Connection, fleet: Iterable[Device]) -> Iterator[str]:
    """Numbers of one start follow one another: what is missing in between is repeated before long, or it was lost.

    Only a start that is over may leave a hole, before a message that was sent while its predecessor had no receipt: the
    predecessor went with the power.
    """
    now, newest = {device.name: device.record().boot for device in fleet}, dict[tuple[str, int], int]()
    query = select(telemetry_points.c.device, telemetry_points.c.seq, telemetry_points.c.content)
    for row in conn.execute(query.order_by(telemetry_points.c.device, telemetry_points.c.seq)):
        start, number = row.seq >> BOOT_SHIFT, row.seq & (1 << BOOT_SHIFT) - 1
        last = newest.get((row.device, start), 0)
        if number != last + 1 and (start == now[row.device] or not decode(row.content, Telemetry).after):
            yield f"{row.device}: of start {start} the messages between {last} and {number} did not arrive"
        newest[row.device, start] = number


def _untrue_outcomes(conn: Connection, fleet: Mapping[str, Device]) -> Iterator[str]:
    """The newest execution of a slot: did it end on the device as the hub says?

    What the device failed to do a second time, after a thief's orders had undone it, the hub calls rolled back.
    """
    query = select(members, rollouts.c.slot, rollouts.c.version).join(rollouts, rollouts.c.id == members.c.rollout)
    for row in conn.execute(query.where(members.c.execution != "", members.c.status == Status.ENDED)):
        state = fleet[row.device].record().slot(row.slot)
        if state.desired is None or state.desired.execution.id != row.execution or row.outcome == Outcome.CANCELLED:
            continue
        runs = state.current and state.current.installed.version
        undone = row.outcome == Outcome.ROLLED_BACK and runs != row.version and state.outcome in _FAILED
        if state.outcome != row.outcome and not undone:
            yield f"{row.device} ended {row.rollout} {state.outcome}, the hub says {row.outcome}"
