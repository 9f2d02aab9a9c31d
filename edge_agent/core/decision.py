"""What deciding about a slot gives, and the few things that every handler does to a state."""

from dataclasses import dataclass
from typing import Final

import msgspec

from edge_agent.core.slot import Abandon, Effect, Serve, State, Ticket
from wire.assignment import SlotAssignment
from wire.messages import Outcome, Phase

MAX_REASON: Final = 500


class IllegalEventError(Exception):
    """An event that cannot happen in this phase: a bug of ours."""


@dataclass(frozen=True, slots=True)
class Moved:
    """Write `state` down, then perform `effects` in order."""

    state: State
    effects: tuple[Effect, ...] = ()


@dataclass(frozen=True, slots=True)
class Ignored:
    """Nothing changes, and this is why."""

    reason: str


Decision = Moved | Ignored


def ticket(desired: SlotAssignment) -> Ticket:
    """The attempt that an assignment asks for."""
    return Ticket(desired.execution.id, desired.execution.attempt)


def ticket_of(state: State) -> Ticket | None:
    """The attempt that the slot is working on or has finished."""
    return ticket(state.desired) if state.desired else None


def wanted(state: State) -> SlotAssignment:
    """The assignment that the slot is working on."""
    if state.desired is None:
        raise IllegalEventError(f"phase {state.phase.value} without an assignment")
    return state.desired


def changed(state: State, **changes: object) -> State:
    """The state with these fields replaced."""
    return msgspec.structs.replace(state, **changes)


def ended(state: State, outcome: Outcome, reason: str, *, phase: Phase) -> State:
    """The state after its attempt ended so. What had been committed before and could not be repaired was rolled back,
    whatever the repair came to: a success that was told is not unsaid."""
    if state.committed and outcome is not Outcome.SUCCEEDED:
        outcome = Outcome.ROLLED_BACK if state.current else Outcome.UNABLE_TO_ROLL_BACK
    return changed(
        state, phase=phase, trial=None, tries=0, outcome=outcome, reason=reason[:MAX_REASON], committed=False
    )


def fail(state: State, outcome: Outcome, reason: str) -> Moved:
    """End the attempt. What was current stays current; a trial is given up."""
    if outcome is Outcome.ROLLED_BACK and state.current is None:
        outcome, reason = Outcome.UNABLE_TO_ROLL_BACK, f"{reason}; there was no model before it"
    failed = ended(state, outcome, reason, phase=Phase.FAILED)
    back = (Serve(state.current),) if state.trial else ()
    return Moved(failed, (Abandon(), *back))
