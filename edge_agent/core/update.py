"""The update machine of one model slot: from an assignment to a committed model, or back to the one before.

`decide` is total over phase x event, with three outcomes: moved (new state, effects to perform), ignored (with the
reason; duplicates and late results are normal) and illegal (our own bug: raises). The runner writes the new state down
before it performs the effects, so whatever dies in between is done again after a restart; every effect may be repeated.

The one promise behind the table: once `current` was committed it is only ever replaced by a model that was committed,
or by `previous`, which was. Only a file that went bad on the disk can leave a slot empty, and then it is fetched again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from edge_agent.core.slot import (
    Abandon,
    Assigned,
    Booted,
    CanaryPassed,
    CollectGarbage,
    Deployed,
    Effect,
    Event,
    FetchFiles,
    FetchRelease,
    FilesStored,
    HealthWindowPassed,
    ReleaseVerified,
    RunCanary,
    RuntimeFailed,
    Serve,
    ServeTrial,
    State,
    StepFailed,
    Ticket,
    TicketedEvent,
    TimedOut,
    TrialServing,
    Unassigned,
    WatchHealth,
)  # fmt: skip
from wire.assignment import SlotAssignment
from wire.messages import Installed, InstallFigures, Outcome, Phase, SlotReport

MAX_TRIES: Final = 2
"""Restarts that a model may live through, in the canary or on trial, before it counts as what causes them."""
MAX_REASON: Final = 500
MAX_FINISHED: Final = 4
"""Ended executions that a slot remembers for the hub; more only pile up while it takes no report at all."""


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


def ticket_of(state: State) -> Ticket | None:
    """The attempt that the slot is working on or has finished."""
    return _ticket(state.desired) if state.desired else None


def decide(state: State, event: Event) -> Decision:
    """What follows from `event` in `state`.

    Raises:
        IllegalEventError: the event belongs to the present attempt but cannot happen in this phase.
    """
    if isinstance(event, TicketedEvent) and event.ticket != ticket_of(state):
        return Ignored(f"{type(event).__name__} of another attempt")
    handler = TABLE.get((state.phase, type(event)))
    if handler is None:
        raise IllegalEventError(f"{type(event).__name__} in phase {state.phase.value}")
    return handler(state, event)


# Handlers. Each takes the state and its own kind of event; the table below is the only caller.


def _assigned(state: State, event: Assigned) -> Decision:
    desired = event.desired
    if _ticket(desired) == ticket_of(state):
        return Ignored("this attempt is known")
    finished = _finished(state, desired)
    if _runs(state, desired):
        done = _with(_ended(state, Outcome.SUCCEEDED, "", phase=Phase.COMMITTED), finished=finished)
        golden = state.current.golden if state.current else None
        return Moved(_with(done, desired=desired, golden=golden), (Abandon(), Serve(state.current)))
    begun = _with(
        state,
        phase=Phase.FETCHING_RELEASE,
        desired=desired,
        trial=None,
        tries=0,
        outcome=None,
        reason="",
        golden=None,
        figures=InstallFigures(),
        finished=finished,
    )
    back = (Serve(state.current),) if state.trial else ()
    return Moved(begun, (Abandon(), *back, CollectGarbage(), FetchRelease(_ticket(desired), desired)))


def _unassigned(state: State, event: Unassigned) -> Decision:
    return _fail(state, Outcome.CANCELLED, "the slot is no longer assigned")


def _release_verified(state: State, event: ReleaseVerified) -> Decision:
    return Moved(_with(state, phase=Phase.FETCHING), (FetchFiles(event.ticket, _wanted(state), event),))


def _files_stored(state: State, event: FilesStored) -> Decision:
    moved = _with(state, phase=Phase.VERIFYING, tries=state.tries + 1, figures=event.figures)
    return Moved(moved, (RunCanary(event.ticket, _wanted(state), event.verified, event.figures),))


def _canary_passed(state: State, event: CanaryPassed) -> Decision:
    desired = _wanted(state)
    trial = Deployed(installed=_installed(desired), release=desired.release.sha256, golden=event.golden)
    moved = _with(state, phase=Phase.TRIAL, trial=trial, tries=1, golden=event.golden, figures=event.figures)
    return Moved(moved, (ServeTrial(event.ticket, trial),))


def _trial_serving(state: State, event: TrialServing) -> Decision:
    return Moved(state, (WatchHealth(event.ticket, _wanted(state).execution.health_window_s),))


def _health_passed(state: State, event: HealthWindowPassed) -> Decision:
    previous = state.current if _installed_of(state.current) != _installed_of(state.trial) else state.previous
    committed = _with(
        _ended(state, Outcome.SUCCEEDED, "", phase=Phase.COMMITTED), current=state.trial, previous=previous
    )
    return Moved(committed, (Abandon(), Serve(state.trial), CollectGarbage()))


def _step_failed(state: State, event: StepFailed) -> Decision:
    failed = _fail(state, event.outcome, event.reason)
    return Moved(_with(failed.state, golden=event.golden or state.golden), failed.effects)


def _timed_out(state: State, event: TimedOut) -> Decision:
    total_s = _wanted(state).execution.total_timeout_s
    return _fail(state, Outcome.TIMED_OUT, f"still {state.phase.value} after {total_s:g} s")


def _trial_decides(state: State, event: Event) -> Decision:
    return Ignored("the health window decides")


def _late(state: State, event: Event) -> Decision:
    return Ignored("the attempt has ended")


def _trial_failed(state: State, event: RuntimeFailed) -> Decision:
    if state.trial is None or event.sha256 != state.trial.installed.sha256:
        return _runtime_failed(state, event)
    return _fail(state, Outcome.ROLLED_BACK, event.reason)


def _runtime_failed(state: State, event: RuntimeFailed) -> Decision:
    """The current model cannot be loaded any more: go to the previous one, whatever else is going on."""
    current, previous = state.current, state.previous
    if current is None or event.sha256 != current.installed.sha256:
        return Ignored("not the model that is current")
    if previous is not None:
        moved = _with(state, current=previous, previous=None, reason=event.reason[:MAX_REASON])
        if state.phase is Phase.COMMITTED:
            moved = _ended(moved, Outcome.ROLLED_BACK, event.reason, phase=Phase.FAILED)
        return Moved(moved, (Serve(previous),))
    if state.phase is Phase.COMMITTED:
        return Moved(_ended(state, Outcome.UNABLE_TO_ROLL_BACK, event.reason, phase=Phase.FAILED))
    return Ignored("there is no other model to go to")


def _booted(state: State, event: Booted) -> Decision:
    """Serve what is there. What was under way, or is no longer what was committed, begins again."""
    whole = _undamaged(state, event.intact)
    lost = state.phase is Phase.COMMITTED and whole.current != state.current
    if lost or state.phase in ACTIVE:
        desired = _wanted(state)
        again = _with(whole, phase=Phase.FETCHING_RELEASE, outcome=None)
        return Moved(again, (Serve(whole.current), FetchRelease(_ticket(desired), desired)))
    return Moved(whole, (Serve(whole.current), CollectGarbage()))


def _booted_in_canary(state: State, event: Booted) -> Decision:
    """The child cannot take the daemon with it, but it can take all memory, or bring a watchdog to reset the device."""
    if state.tries <= MAX_TRIES:
        return _booted(state, event)
    whole = _undamaged(state, event.intact)
    reason = f"the agent was restarted {state.tries} times while the model was tried in the canary"
    failed = _fail(whole, Outcome.FAILED_NO_CHANGE, reason)
    return Moved(failed.state, (Abandon(), Serve(whole.current), CollectGarbage()))


def _booted_in_trial(state: State, event: Booted) -> Decision:
    whole = _undamaged(state, event.intact)
    trial = whole.trial
    if trial is None:
        return _back_at_boot(whole, "the trial model was damaged on the disk")
    if state.tries > MAX_TRIES:
        return _back_at_boot(whole, f"the agent was restarted {state.tries} times during the trial")
    tried = _with(whole, tries=state.tries + 1)
    return Moved(tried, (Serve(whole.current), ServeTrial(_ticket(_wanted(state)), trial)))


def _back_at_boot(state: State, reason: str) -> Decision:
    failed = _fail(state, Outcome.ROLLED_BACK, reason)
    return Moved(failed.state, (Abandon(), Serve(state.current), CollectGarbage()))


def _undamaged(state: State, intact: frozenset[str]) -> State:
    """The state without the models whose files are no longer what they were."""

    def keep(deployed: Deployed | None) -> Deployed | None:
        return deployed if deployed and deployed.installed.sha256 in intact else None

    current, previous, trial = keep(state.current), keep(state.previous), keep(state.trial)
    if (current, previous, trial) == (state.current, state.previous, state.trial):
        return state
    if current is None:
        current, previous = previous, None
    reason = "a model was damaged on the disk"
    return _with(state, current=current, previous=previous, trial=trial, reason=reason)


def _fail(state: State, outcome: Outcome, reason: str) -> Moved:
    """End the attempt. What was current stays current; a trial is given up."""
    if outcome is Outcome.ROLLED_BACK and state.current is None:
        outcome, reason = Outcome.UNABLE_TO_ROLL_BACK, f"{reason}; there was no model before it"
    failed = _ended(state, outcome, reason, phase=Phase.FAILED)
    back = (Serve(state.current),) if state.trial else ()
    return Moved(failed, (Abandon(), *back))


def _ended(state: State, outcome: Outcome, reason: str, *, phase: Phase) -> State:
    return _with(state, phase=phase, trial=None, tries=0, outcome=outcome, reason=reason[:MAX_REASON])


def _finished(state: State, desired: SlotAssignment) -> tuple[SlotReport, ...]:
    """What there is to tell of ended executions once `desired` begins: of the one it replaces, too."""
    before = state.desired
    if before is None or before.execution.id == desired.execution.id:
        return state.finished
    if state.outcome is None:
        state = _ended(state, Outcome.CANCELLED, "replaced by a newer assignment", phase=Phase.FAILED)
    return (*state.finished, state.told(before.slot))[-MAX_FINISHED:]


def _runs(state: State, desired: SlotAssignment) -> bool:
    broken = state.outcome is Outcome.UNABLE_TO_ROLL_BACK
    return state.current is not None and state.current.installed == _installed(desired) and not broken


def _installed_of(deployed: Deployed | None) -> Installed | None:
    return deployed.installed if deployed else None


def _installed(desired: SlotAssignment) -> Installed:
    return Installed(model=desired.model, version=desired.version, variant=desired.variant, sha256=desired.sha256)


def _ticket(desired: SlotAssignment) -> Ticket:
    return Ticket(desired.execution.id, desired.execution.attempt)


def _wanted(state: State) -> SlotAssignment:
    if state.desired is None:
        raise IllegalEventError(f"phase {state.phase.value} without an assignment")
    return state.desired


def _with(state: State, **changes: object) -> State:
    return msgspec.structs.replace(state, **changes)


ACTIVE: Final = (Phase.FETCHING_RELEASE, Phase.FETCHING, Phase.VERIFYING)
"""Phases that begin again from the assignment after a restart; what is durable by then is not fetched twice."""
_AT_REST: Final = (Phase.IDLE, Phase.COMMITTED, Phase.FAILED)

Handler = Callable[..., Decision]
"""(state, event of the kind that the table names) -> decision."""

TABLE: Final[dict[tuple[Phase, type], Handler]] = {
    **{(phase, Assigned): _assigned for phase in Phase},
    **{(phase, Unassigned): _unassigned for phase in (*ACTIVE, Phase.TRIAL)},
    **{(phase, Unassigned): _late for phase in _AT_REST},
    (Phase.FETCHING_RELEASE, ReleaseVerified): _release_verified,
    (Phase.FETCHING, FilesStored): _files_stored,
    (Phase.VERIFYING, CanaryPassed): _canary_passed,
    (Phase.TRIAL, TrialServing): _trial_serving,
    (Phase.TRIAL, HealthWindowPassed): _health_passed,
    **{(phase, StepFailed): _step_failed for phase in (*ACTIVE, Phase.TRIAL)},
    **{(phase, TimedOut): _timed_out for phase in ACTIVE},
    (Phase.TRIAL, TimedOut): _trial_decides,
    **{(phase, late): _late for phase in _AT_REST for late in (
        ReleaseVerified, FilesStored, CanaryPassed, TrialServing, HealthWindowPassed, StepFailed, TimedOut)},
    **{(phase, RuntimeFailed): _runtime_failed for phase in (*ACTIVE, *_AT_REST)},
    (Phase.TRIAL, RuntimeFailed): _trial_failed,
    **{(phase, Booted): _booted for phase in (Phase.FETCHING_RELEASE, Phase.FETCHING, *_AT_REST)},
    (Phase.VERIFYING, Booted): _booted_in_canary,
    (Phase.TRIAL, Booted): _booted_in_trial,
}  # fmt: skip
"""(phase, kind of event) -> handler. A missing key is an illegal event. `Booted` rows are the resume table."""
