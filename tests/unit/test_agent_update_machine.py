"""The update machine: total over phase and event, deaf to other attempts, and it takes the road it should."""

import itertools
from dataclasses import fields

import msgspec
import pytest

from edge_agent.core import slot as events
from edge_agent.core.decision import Ignored, IllegalEventError, Moved, changed
from edge_agent.core.resume import ACTIVE, MAX_RESTARTS, MAX_TRIES
from edge_agent.core.slot import (
    WAITING,
    Abandon,
    Assigned,
    AwaitWindow,
    Booted,
    CanaryPassed,
    Deployed,
    FetchFiles,
    FetchRelease,
    FilesStored,
    HealthWindowPassed,
    ReleaseVerified,
    RuntimeFailed,
    Serve,
    ServeTrial,
    State,
    StepFailed,
    Ticket,
    TimedOut,
    TrialServing,
    Unassigned,
    WindowOpened,
)
from edge_agent.core.update import decide
from edge_agent.core.windows import wait_ns
from wire.assignment import Execution, Opening, SlotAssignment, Windows
from wire.messages import GoldenResult, Installed, InstallFigures, Outcome, Phase
from wire.release import object_ref

TICKET = Ticket("e1", 1)
GOLDEN = GoldenResult(matched=32, total=32, max_error=0.0)
FILE = object_ref(b"file")
VERIFIED = ReleaseVerified(TICKET, FILE, FILE, "logits/fp32", 0.01)


def desired(version: int = 1, execution: str = "e1") -> SlotAssignment:
    """An assignment of this version."""
    return SlotAssignment(
        slot="main",
        model="watch",
        version=version,
        variant="fp32",
        sha256=f"{version:064x}",
        release=object_ref(b"release %d" % version),
        execution=Execution(id=execution),
    )


def deployed(version: int) -> Deployed:
    """That version, on the device."""
    installed = Installed(model="watch", version=version, variant="fp32", sha256=f"{version:064x}")
    return Deployed(installed=installed, release=object_ref(b"release %d" % version).sha256)


def in_phase(phase: Phase, version: int = 1, current: int | None = None) -> State:
    """A slot that is this far with `version`, running `current`."""
    return State(
        phase=phase,
        desired=None if phase is Phase.IDLE else desired(version),
        current=deployed(current) if current else deployed(version) if phase is Phase.COMMITTED else None,
        trial=deployed(version) if phase is Phase.TRIAL else None,
        tries=1 if phase is Phase.TRIAL else 0,
    )


EVENTS: tuple[events.Event, ...] = (
    Assigned(desired(2, "e2")),
    Unassigned(),
    VERIFIED,
    FilesStored(TICKET, VERIFIED, InstallFigures()),
    WindowOpened(TICKET),
    CanaryPassed(TICKET, GOLDEN, InstallFigures()),
    TrialServing(TICKET),
    HealthWindowPassed(TICKET),
    StepFailed(TICKET, Outcome.REJECTED, "no"),
    TimedOut(TICKET),
    RuntimeFailed(f"{1:064x}", "broken"),
    Booted(frozenset({f"{1:064x}", f"{2:064x}"})),
)

ILLEGAL = {
    *((phase, WindowOpened) for phase in (*ACTIVE, Phase.TRIAL)),
    *(
        (phase, kind)
        for phase in WAITING
        for kind in (ReleaseVerified, FilesStored, CanaryPassed, TrialServing, HealthWindowPassed)
    ),
    *((Phase.FETCHING_RELEASE, kind) for kind in (FilesStored, CanaryPassed, TrialServing, HealthWindowPassed)),
    *((Phase.FETCHING, kind) for kind in (ReleaseVerified, CanaryPassed, TrialServing, HealthWindowPassed)),
    *((Phase.VERIFYING, kind) for kind in (ReleaseVerified, FilesStored, TrialServing, HealthWindowPassed)),
    *((Phase.TRIAL, kind) for kind in (ReleaseVerified, FilesStored, CanaryPassed)),
}


@pytest.mark.parametrize(
    ("phase", "event"), tuple(itertools.product(Phase, EVENTS)), ids=lambda one: type(one).__name__
)
def test_every_event_in_every_phase_is_moved_ignored_or_our_own_bug(phase: Phase, event: events.Event) -> None:
    """Exactly the pairs named here are illegal."""
    state = in_phase(phase)
    if (phase, type(event)) in ILLEGAL:
        with pytest.raises(IllegalEventError, match=f"{type(event).__name__} in phase {phase.value}"):
            decide(state, event)
    else:
        assert isinstance(decide(state, event), Moved | Ignored)


def test_the_list_of_events_is_complete() -> None:
    """A new event must be added to the table above."""
    assert {type(event) for event in EVENTS} == set(events.Event.__args__)


def test_results_of_another_attempt_change_nothing() -> None:
    """Whatever the phase."""
    for phase, event in itertools.product(Phase, EVENTS):
        if any(field.name == "ticket" for field in fields(event)):
            late = type(event)(**{f.name: getattr(event, f.name) for f in fields(event)} | {"ticket": Ticket("e0", 1)})
            assert isinstance(decide(in_phase(phase), late), Ignored)


def moved(state: State, event: events.Event) -> Moved:
    """The decision, which must be a move."""
    decision = decide(state, event)
    assert isinstance(decision, Moved), decision
    return decision


TONIGHT = (Opening(from_ns=200, until_ns=300), Opening(from_ns=500, until_ns=600))


def windowed(**windows: tuple[Opening, ...]) -> SlotAssignment:
    """An assignment that may begin only at times."""
    execution = Execution(id="e2", windows=Windows(**windows))
    return msgspec.structs.replace(desired(2), execution=execution)


def test_a_download_waits_for_its_window() -> None:
    """Restarts included, without a limit; then it goes the usual way."""
    begun = moved(in_phase(Phase.COMMITTED, 1), Assigned(windowed(download=TONIGHT)))
    ticket = Ticket("e2", 1)
    assert (begun.state.phase, begun.effects[-1]) == (Phase.WAITING_TO_FETCH, AwaitWindow(ticket, TONIGHT))
    state = begun.state
    for _ in range(2 * MAX_RESTARTS):
        again = moved(state, Booted(frozenset({f"{1:064x}"})))
        assert again.effects == (Serve(deployed(1)), AwaitWindow(ticket, TONIGHT))
        state = again.state
    assert isinstance(decide(state, TimedOut(ticket)), Ignored)
    opened = moved(state, WindowOpened(ticket))
    assert (opened.state.phase, opened.effects) == (
        Phase.FETCHING_RELEASE,
        (FetchRelease(ticket, windowed(download=TONIGHT)),),
    )


def test_what_is_downloaded_waits_to_be_installed() -> None:
    """Its timers stand still; then the release is judged anew, and what the download cost is not forgotten."""
    wanted, ticket = windowed(install=TONIGHT), Ticket("e2", 1)
    fetching = msgspec.structs.replace(in_phase(Phase.FETCHING, 2, 1), desired=wanted)
    verified = ReleaseVerified(ticket, FILE, FILE, "logits/fp32", 0.01)
    waits = moved(fetching, FilesStored(ticket, verified, InstallFigures(downloaded_bytes=7), inside=False))
    assert waits.state.phase is Phase.WAITING_TO_INSTALL
    assert waits.effects == (Abandon(), AwaitWindow(ticket, TONIGHT))
    opened = moved(waits.state, WindowOpened(ticket))
    assert opened.effects == (FetchRelease(ticket, wanted),)
    stored = moved(moved(opened.state, verified).state, FilesStored(ticket, verified, InstallFigures()))
    assert (stored.state.phase, stored.state.figures.downloaded_bytes) == (Phase.VERIFYING, 7)
    missed = moved(waits.state, StepFailed(ticket, Outcome.TIMED_OUT, "over"))
    assert (missed.state.outcome, missed.state.current) == (Outcome.TIMED_OUT, deployed(1))


def test_what_rotted_after_it_was_committed_waits_for_no_window() -> None:
    """Its openings are long over: they would have the repair fail, and leave the slot with less than it had."""
    rotten = msgspec.structs.replace(in_phase(Phase.COMMITTED, 2), desired=windowed(download=TONIGHT, install=TONIGHT))
    repair = moved(rotten, Booted(frozenset()))
    assert repair.effects[-1] == FetchRelease(Ticket("e2", 1), windowed_never())
    again = moved(repair.state, Booted(frozenset()))
    assert again.effects[-1] == FetchRelease(Ticket("e2", 1), windowed_never())
    assert isinstance(decide(again.state, Assigned(windowed(download=TONIGHT, install=TONIGHT))), Ignored)


@pytest.mark.parametrize(
    "then",
    [
        TimedOut(TICKET),
        StepFailed(TICKET, Outcome.FAILED_NO_CHANGE, "no chunks"),
        StepFailed(TICKET, Outcome.REJECTED, "below the floor"),
        Unassigned(),
        Assigned(desired(3, "e2")),
    ],
)
def test_a_repair_that_fails_is_a_rollback(then: events.Event) -> None:
    """Success was told once: seed 20053 of the fuzzer had it become cancelled when the repair was interrupted."""
    rotten = changed(in_phase(Phase.COMMITTED, 2, current=2), previous=deployed(1))
    repair = moved(rotten, Booted(frozenset({f"{1:064x}"})))
    again = moved(repair.state, Booted(frozenset({f"{1:064x}"})))
    state = moved(again.state, then).state
    told = [state.told("main"), *state.finished]
    assert [one.outcome for one in told if one.execution == "e1"] == [Outcome.ROLLED_BACK]
    assert not state.committed


def windowed_never() -> SlotAssignment:
    """The same, without windows."""
    return msgspec.structs.replace(desired(2), execution=Execution(id="e2"))


def test_openings_are_awaited_one_after_the_other() -> None:
    """Inside at once; before and between them until the next; after the last there is none."""
    waits = {now_ns: wait_ns(TONIGHT, now_ns) for now_ns in (0, 199, 200, 299, 300, 599, 600)}
    assert waits == {0: 200, 199: 1, 200: 0, 299: 0, 300: 200, 599: 0, 600: None}
    assert wait_ns((), 7) == 0


def test_the_straight_road_to_committed() -> None:
    """Phase after phase, with the effect that brings the next event."""
    state = in_phase(Phase.COMMITTED, 1)
    begun = moved(state, Assigned(desired(2, "e2")))
    ticket = Ticket("e2", 1)
    assert isinstance(begun.effects[-1], FetchRelease)
    verified = ReleaseVerified(ticket, FILE, FILE, "logits/fp32", 0.01)
    fetching = moved(begun.state, verified)
    assert isinstance(fetching.effects[0], FetchFiles)
    verifying = moved(fetching.state, FilesStored(ticket, verified, InstallFigures(downloaded_bytes=7)))
    trial = moved(verifying.state, CanaryPassed(ticket, GOLDEN, InstallFigures(downloaded_bytes=7)))
    assert trial.effects == (ServeTrial(ticket, trial.state.trial),)
    assert trial.state.current == deployed(1)
    serving = moved(trial.state, TrialServing(ticket))
    done = moved(serving.state, HealthWindowPassed(ticket)).state
    assert (done.phase, done.outcome, done.trial) == (Phase.COMMITTED, Outcome.SUCCEEDED, None)
    assert done.current is not None
    assert (done.current.installed.version, done.current.golden, done.previous) == (2, GOLDEN, deployed(1))


def test_an_assignment_of_what_runs_already_succeeds_at_once() -> None:
    """With the golden result of when it was installed."""
    state = msgspec.structs.replace(in_phase(Phase.FAILED, 2, current=1), golden=None)
    done = moved(state, Assigned(desired(1, "e3")))
    assert (done.state.phase, done.state.outcome) == (Phase.COMMITTED, Outcome.SUCCEEDED)
    assert not any(isinstance(effect, FetchRelease) for effect in done.effects)


def test_a_repeated_assignment_is_ignored_and_a_new_attempt_is_not() -> None:
    """Duplicates are normal; a higher attempt is an order to try again."""
    state = in_phase(Phase.FAILED, 1)
    assert isinstance(decide(state, Assigned(desired(1))), Ignored)
    again = msgspec.structs.replace(desired(1), execution=Execution(id="e1", attempt=2))
    assert moved(state, Assigned(again)).state.phase is Phase.FETCHING_RELEASE


def test_a_failed_trial_goes_back_to_the_model_before_it() -> None:
    """And says so; with no model before it, it says that."""
    back = moved(in_phase(Phase.TRIAL, 2, current=1), RuntimeFailed(f"{2:064x}", "broken"))
    assert (back.state.outcome, back.state.current, back.state.trial) == (Outcome.ROLLED_BACK, deployed(1), None)
    assert Serve(deployed(1)) in back.effects
    alone = moved(in_phase(Phase.TRIAL, 1), RuntimeFailed(f"{1:064x}", "broken"))
    assert alone.state.outcome is Outcome.UNABLE_TO_ROLL_BACK


def test_a_trial_that_kills_the_agent_is_given_up() -> None:
    """After MAX_TRIES + 1 starts with it."""
    state = in_phase(Phase.TRIAL, 2, current=1)
    whole = Booted(frozenset({f"{1:064x}", f"{2:064x}"}))
    for _ in range(MAX_TRIES):
        state = moved(state, whole).state
        assert state.phase is Phase.TRIAL
    last = moved(state, whole)
    assert (last.state.phase, last.state.outcome) == (Phase.FAILED, Outcome.ROLLED_BACK)
    assert Serve(deployed(1)) in last.effects


def test_a_damaged_trial_is_given_up_at_the_start() -> None:
    """Its file is no longer what was verified."""
    decision = moved(in_phase(Phase.TRIAL, 2, current=1), Booted(frozenset({f"{1:064x}"})))
    assert (decision.state.outcome, decision.state.current) == (Outcome.ROLLED_BACK, deployed(1))


@pytest.mark.parametrize("phase", [Phase.FETCHING_RELEASE, Phase.FETCHING, Phase.VERIFYING])
def test_an_interrupted_installation_begins_again_while_the_current_model_serves(phase: Phase) -> None:
    """The resume table."""
    decision = moved(in_phase(phase, 2, current=1), Booted(frozenset({f"{1:064x}"})))
    assert decision.state.phase is Phase.FETCHING_RELEASE
    assert decision.effects == (Serve(deployed(1)), FetchRelease(TICKET, desired(2)))


def test_an_installation_that_the_agent_never_survives_is_given_up() -> None:
    """Whatever step it is: after MAX_RESTARTS the slot is left as it is, and what was current serves."""
    state = in_phase(Phase.FETCHING, 2, current=1)
    whole = Booted(frozenset({f"{1:064x}"}))
    for _ in range(MAX_RESTARTS):
        state = moved(state, whole).state
        assert state.phase is Phase.FETCHING_RELEASE
        state = moved(state, VERIFIED).state
    last = moved(state, whole)
    assert (last.state.phase, last.state.outcome) == (Phase.FAILED, Outcome.FAILED_NO_CHANGE)
    assert Serve(deployed(1)) in last.effects
    assert moved(last.state, Assigned(desired(3, "e3"))).state.restarts == 0
