"""What a slot does when the agent starts: serve what is whole, go on with what was under way, give up what never ends.

A model that ends the agent, or has it reset, shows only in the count of its starts: in the canary and on trial it gets
three, an installation as a whole MAX_RESTARTS. Whatever becomes of the attempt, what was committed serves first. If
even that may be why the agent does not last, the model before it serves, and it has to pass canary and trial again, or
changes places with the one before it where something else is wanted by now. Without one before it, it is left out until
the start has lasted. A suspicion may be wrong (the power failed five times), so it never costs the only model.
"""

from typing import Final

from edge_agent.core.decision import Decision, Moved, changed, fail, ticket, wanted
from edge_agent.core.slot import (
    Abandon,
    AwaitWindow,
    Booted,
    CollectGarbage,
    Deployed,
    FetchRelease,
    Serve,
    ServeTrial,
    State,
)
from edge_agent.core.windows import spent, to_fetch, to_install
from wire.messages import Outcome, Phase

ACTIVE: Final = (Phase.FETCHING_RELEASE, Phase.FETCHING, Phase.VERIFYING)
"""Phases that begin again from the assignment after a restart; what is durable by then is not fetched twice."""
MAX_TRIES: Final = 2
"""Restarts that a model may live through, in the canary or on trial, before it counts as what causes them."""
MAX_RESTARTS: Final = 28
"""Restarts that an execution may live through in all: whatever it is that ends the agent, it is not for ever."""

SUSPECTED: Final = "the agent went down at start after start with the model in use"


def booted(state: State, event: Booted) -> Decision:
    """Serve what is there. What was under way, or is no longer what was committed, begins again."""
    whole = _usable(state, event)
    lost = state.phase is Phase.COMMITTED and whole.current != state.current
    if not lost and state.phase not in ACTIVE:
        return Moved(whole, (_serve(whole, event), CollectGarbage()))
    if state.restarts >= MAX_RESTARTS:
        reason = f"the agent was restarted {state.restarts} times during the installation"
        whole = changed(whole, committed=lost or state.committed)
        return _given_up(whole, event, Outcome.FAILED_NO_CHANGE, reason)
    desired = spent(wanted(state)) if lost else wanted(state)
    restarts = state.restarts + 1
    again = changed(
        whole,
        phase=Phase.FETCHING_RELEASE,
        desired=desired,
        outcome=None,
        restarts=restarts,
        committed=lost or state.committed,
    )
    return Moved(again, (_serve(whole, event), FetchRelease(ticket(desired), desired)))


def booted_before_fetching(state: State, event: Booted) -> Decision:
    """It goes on waiting; such starts cost the execution nothing."""
    whole = _usable(state, event)
    desired = wanted(whole)
    return Moved(whole, (_serve(whole, event), AwaitWindow(ticket(desired), to_fetch(desired))))


def booted_before_installing(state: State, event: Booted) -> Decision:
    """So it does with what it has fetched."""
    whole = _usable(state, event)
    desired = wanted(whole)
    return Moved(whole, (_serve(whole, event), AwaitWindow(ticket(desired), to_install(desired))))


def booted_in_canary(state: State, event: Booted) -> Decision:
    """The child cannot take the daemon with it, but it can take all memory, or bring a watchdog to reset the device."""
    if state.tries <= MAX_TRIES:
        return booted(state, event)
    reason = f"the agent was restarted {state.tries} times while the model was tried in the canary"
    return _given_up(_usable(state, event), event, Outcome.FAILED_NO_CHANGE, reason)


def booted_in_trial(state: State, event: Booted) -> Decision:
    """The trial goes on, one start less, unless there is nothing left to try."""
    whole = _usable(state, event)
    if whole.trial is None:
        return _given_up(whole, event, Outcome.ROLLED_BACK, "the trial model was damaged on the disk")
    if state.tries > MAX_TRIES:
        reason = f"the agent was restarted {state.tries} times during the trial"
        return _given_up(whole, event, Outcome.ROLLED_BACK, reason)
    tried = changed(whole, tries=state.tries + 1)
    return Moved(tried, (_serve(whole, event), ServeTrial(ticket(wanted(state)), whole.trial)))


def _given_up(state: State, event: Booted, outcome: Outcome, reason: str) -> Decision:
    return Moved(fail(state, outcome, reason).state, (Abandon(), _serve(state, event), CollectGarbage()))


def _serve(state: State, event: Booted) -> Serve:
    return Serve(None if _suspected(state, event) else state.current)


def _suspected(state: State, event: Booted) -> bool:
    return state.current is not None and state.current.installed.sha256 in event.suspects


def _usable(state: State, event: Booted) -> State:
    """The state without the models whose files are no longer what they were, and as the suspicion wants it."""

    def keep(deployed: Deployed | None) -> Deployed | None:
        return deployed if deployed and deployed.installed.sha256 in event.intact else None

    current, previous, trial = keep(state.current), keep(state.previous), keep(state.trial)
    if (current, previous, trial) != (state.current, state.previous, state.trial):
        if current is None:
            current, previous = previous, None
        reason = "a model was damaged on the disk"
        state = changed(state, current=current, previous=previous, trial=trial, reason=reason)
    if not _suspected(state, event):
        return state
    if state.previous is None:
        return changed(state, reason=SUSPECTED)
    if state.phase is Phase.COMMITTED:  # it is what is wanted, so it is tried anew
        return changed(state, current=state.previous, previous=None, reason=SUSPECTED)
    return changed(state, current=state.previous, previous=state.current, reason=SUSPECTED)


def served_meanwhile(state: State, event: Booted) -> Deployed | None:
    """What serves while the start cannot be written down: in place of a model under suspicion the one before it."""
    current, previous = state.current, state.previous
    if current is None or current.installed.sha256 not in event.suspects:
        return current
    return previous if previous is not None and previous.installed.sha256 in event.intact else None
