"""The update machine of one model slot: from an assignment to a committed model, or back to the one before.

`decide` is total over phase x event, with three outcomes: moved (new state, effects to perform), ignored (with the
reason; duplicates and late results are normal) and illegal (our own bug: raises). The runner writes the new state down
before it performs the effects, so whatever dies in between is done again after a restart; every effect may be repeated.

The one promise behind the table: once `current` was committed it is only ever replaced by a model that was committed,
or by `previous`, which was. Only a file that went bad on the disk can leave a slot empty, and then it is fetched again.
"""

from collections.abc import Callable
from typing import Final

from edge_agent.core.decision import (
    MAX_REASON,
    Decision,
    Ignored,
    IllegalEventError,
    Moved,
    changed,
    ended,
    fail,
    ticket,
    ticket_of,
    wanted,
)
from edge_agent.core.resume import (
    ACTIVE,
    booted,
    booted_before_fetching,
    booted_before_installing,
    booted_in_canary,
    booted_in_trial,
)
from edge_agent.core.slot import (
    AT_REST,
    WAITING,
    Abandon,
    Assigned,
    AwaitWindow,
    Booted,
    CanaryPassed,
    CollectGarbage,
    Deployed,
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
    TicketedEvent,
    TimedOut,
    TrialServing,
    Unassigned,
    WatchHealth,
    WindowOpened,
)
from edge_agent.core.windows import to_fetch, to_install
from wire.assignment import SlotAssignment
from wire.messages import Installed, InstallFigures, Outcome, Phase, SlotReport

MAX_FINISHED: Final = 4
"""Ended executions that a slot remembers for the hub; more only pile up while it takes no report at all."""


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
    if ticket(desired) == ticket_of(state):
        return Ignored("this attempt is known")
    finished = _finished(state, desired)
    if _runs(state, desired):
        done = changed(ended(state, Outcome.SUCCEEDED, "", phase=Phase.COMMITTED), finished=finished)
        golden = state.current.golden if state.current else None
        return Moved(changed(done, desired=desired, golden=golden), (Abandon(), Serve(state.current)))
    openings = to_fetch(desired)
    begun = changed(
        state,
        phase=Phase.WAITING_TO_FETCH if openings else Phase.FETCHING_RELEASE,
        desired=desired,
        trial=None,
        tries=0,
        restarts=0,
        committed=False,
        outcome=None,
        reason="",
        golden=None,
        figures=InstallFigures(),
        finished=finished,
    )
    back = (Serve(state.current),) if state.trial else ()
    first = AwaitWindow(ticket(desired), openings) if openings else FetchRelease(ticket(desired), desired)
    return Moved(begun, (Abandon(), *back, CollectGarbage(), first))


def _unassigned(state: State, event: Unassigned) -> Decision:
    return fail(state, Outcome.CANCELLED, "the slot is no longer assigned")


def _release_verified(state: State, event: ReleaseVerified) -> Decision:
    return Moved(changed(state, phase=Phase.FETCHING), (FetchFiles(event.ticket, wanted(state), event),))


def _files_stored(state: State, event: FilesStored) -> Decision:
    desired = wanted(state)
    figures = event.figures if event.figures.downloaded_bytes else state.figures  # fetched before it waited
    if not event.inside:
        waits = changed(state, phase=Phase.WAITING_TO_INSTALL, figures=figures)
        return Moved(waits, (Abandon(), AwaitWindow(event.ticket, to_install(desired))))
    moved = changed(state, phase=Phase.VERIFYING, tries=state.tries + 1, figures=figures)
    return Moved(moved, (RunCanary(event.ticket, desired, event.verified, figures),))


def _window_opened(state: State, event: WindowOpened) -> Decision:
    """From the beginning: the release is judged as things stand now, and what is there is not fetched again."""
    return Moved(changed(state, phase=Phase.FETCHING_RELEASE), (FetchRelease(event.ticket, wanted(state)),))


def _canary_passed(state: State, event: CanaryPassed) -> Decision:
    desired = wanted(state)
    trial = Deployed(installed=_installed(desired), release=desired.release.sha256, golden=event.golden)
    moved = changed(state, phase=Phase.TRIAL, trial=trial, tries=1, golden=event.golden, figures=event.figures)
    return Moved(moved, (ServeTrial(event.ticket, trial),))


def _trial_serving(state: State, event: TrialServing) -> Decision:
    return Moved(state, (WatchHealth(event.ticket, wanted(state).execution.health_window_s),))


def _health_passed(state: State, event: HealthWindowPassed) -> Decision:
    previous = state.current if _installed_of(state.current) != _installed_of(state.trial) else state.previous
    committed = changed(
        ended(state, Outcome.SUCCEEDED, "", phase=Phase.COMMITTED), current=state.trial, previous=previous
    )
    return Moved(committed, (Abandon(), Serve(state.trial), CollectGarbage()))


def _step_failed(state: State, event: StepFailed) -> Decision:
    failed = fail(state, event.outcome, event.reason)
    return Moved(changed(failed.state, golden=event.golden or state.golden), failed.effects)


def _timed_out(state: State, event: TimedOut) -> Decision:
    total_s = wanted(state).execution.total_timeout_s
    return fail(state, Outcome.TIMED_OUT, f"still {state.phase.value} after {total_s:g} s")


def _waits(state: State, event: TimedOut) -> Decision:
    return Ignored("it waits for a window, and time stands still")


def _trial_decides(state: State, event: Event) -> Decision:
    return Ignored("the health window decides")


def _late(state: State, event: Event) -> Decision:
    return Ignored("the attempt has ended")


def _trial_failed(state: State, event: RuntimeFailed) -> Decision:
    if state.trial is None or event.sha256 != state.trial.installed.sha256:
        return _runtime_failed(state, event)
    return fail(state, Outcome.ROLLED_BACK, event.reason)


def _runtime_failed(state: State, event: RuntimeFailed) -> Decision:
    """The current model cannot be loaded any more: go to the previous one, whatever else is going on."""
    current, previous = state.current, state.previous
    if current is None or event.sha256 != current.installed.sha256:
        return Ignored("not the model that is current")
    if previous is not None:
        moved = changed(state, current=previous, previous=None, reason=event.reason[:MAX_REASON])
        if state.phase is Phase.COMMITTED:
            moved = ended(moved, Outcome.ROLLED_BACK, event.reason, phase=Phase.FAILED)
        return Moved(moved, (Serve(previous),))
    if state.phase is Phase.COMMITTED:
        return Moved(ended(state, Outcome.UNABLE_TO_ROLL_BACK, event.reason, phase=Phase.FAILED))
    return Ignored("there is no other model to go to")


def _finished(state: State, desired: SlotAssignment) -> tuple[SlotReport, ...]:
    """What there is to tell of ended executions once `desired` begins: of the one it replaces, too."""
    before = state.desired
    if before is None or before.execution.id == desired.execution.id:
        return state.finished
    if state.outcome is None:
        state = ended(state, Outcome.CANCELLED, "replaced by a newer assignment", phase=Phase.FAILED)
    return (*state.finished, state.told(before.slot))[-MAX_FINISHED:]


def _runs(state: State, desired: SlotAssignment) -> bool:
    broken = state.outcome is Outcome.UNABLE_TO_ROLL_BACK
    return state.current is not None and state.current.installed == _installed(desired) and not broken


def _installed_of(deployed: Deployed | None) -> Installed | None:
    return deployed.installed if deployed else None


def _installed(desired: SlotAssignment) -> Installed:
    return Installed(model=desired.model, version=desired.version, variant=desired.variant, sha256=desired.sha256)


Handler = Callable[..., Decision]
"""(state, event of the kind that the table names) -> decision."""

TABLE: Final[dict[tuple[Phase, type], Handler]] = {
    **{(phase, Assigned): _assigned for phase in Phase},
    **{(phase, Unassigned): _unassigned for phase in (*ACTIVE, *WAITING, Phase.TRIAL)},
    **{(phase, Unassigned): _late for phase in AT_REST},
    (Phase.FETCHING_RELEASE, ReleaseVerified): _release_verified,
    (Phase.FETCHING, FilesStored): _files_stored,
    **{(phase, WindowOpened): _window_opened for phase in WAITING},
    (Phase.VERIFYING, CanaryPassed): _canary_passed,
    (Phase.TRIAL, TrialServing): _trial_serving,
    (Phase.TRIAL, HealthWindowPassed): _health_passed,
    **{(phase, StepFailed): _step_failed for phase in (*ACTIVE, *WAITING, Phase.TRIAL)},
    **{(phase, TimedOut): _timed_out for phase in ACTIVE},
    **{(phase, TimedOut): _waits for phase in WAITING},
    (Phase.TRIAL, TimedOut): _trial_decides,
    **{(phase, late): _late for phase in AT_REST for late in (
        ReleaseVerified, FilesStored, WindowOpened, CanaryPassed, TrialServing, HealthWindowPassed, StepFailed,
        TimedOut)},
    **{(phase, RuntimeFailed): _runtime_failed for phase in (*ACTIVE, *WAITING, *AT_REST)},
    (Phase.TRIAL, RuntimeFailed): _trial_failed,
    **{(phase, Booted): booted for phase in (Phase.FETCHING_RELEASE, Phase.FETCHING, *AT_REST)},
    (Phase.WAITING_TO_FETCH, Booted): booted_before_fetching,
    (Phase.WAITING_TO_INSTALL, Booted): booted_before_installing,
    (Phase.VERIFYING, Booted): booted_in_canary,
    (Phase.TRIAL, Booted): booted_in_trial,
}  # fmt: skip
"""(phase, kind of event) -> handler. A missing key is an illegal event. `Booted` rows are the resume table."""
