"""What a model slot remembers (`State`), what can happen to it (events) and what then has to be done (effects).

`State` is persisted: its field names and the strings of `Phase` and `Outcome` never change within a schema.
"""

from dataclasses import dataclass
from typing import Final

from wire.assignment import Opening, SlotAssignment
from wire.codec import Document
from wire.messages import GoldenResult, Installed, InstallFigures, Outcome, Phase, SlotReport
from wire.release import ObjectRef, Sha256

AT_REST: Final = (Phase.IDLE, Phase.COMMITTED, Phase.FAILED)
"""Phases in which nothing is under way."""
WAITING: Final = (Phase.WAITING_TO_FETCH, Phase.WAITING_TO_INSTALL)
"""Phases in which an execution waits for a window; no timer of it runs, and what it has fetched stays."""


class Deployed(Document, frozen=True, kw_only=True):
    """A variant whose verified files lie on this device, and the release that vouches for it."""

    installed: Installed
    release: Sha256
    """Object that holds the signed release envelope."""
    golden: GoldenResult | None = None
    """How well it reproduced its golden vectors here when it was installed."""


class State(Document, frozen=True, kw_only=True):
    """Everything a slot must remember over a restart."""

    phase: Phase = Phase.IDLE
    desired: SlotAssignment | None = None
    current: Deployed | None = None
    previous: Deployed | None = None
    trial: Deployed | None = None
    tries: int = 0
    """Starts of the agent that the model under test has taken part in, in the canary or on trial."""
    restarts: int = 0
    """Starts of the agent in the midst of this execution."""
    committed: bool = False
    """This execution had succeeded; its model went bad since then, and is being installed anew."""
    outcome: Outcome | None = None
    reason: str = ""
    golden: GoldenResult | None = None
    figures: InstallFigures = InstallFigures()
    finished: tuple[SlotReport, ...] = ()
    """How earlier executions ended, the newest last, until the hub has taken it."""

    def told(self, slot: str) -> SlotReport:
        """The state as it is reported."""
        execution = self.desired.execution if self.desired else None
        return SlotReport(
            slot=slot,
            phase=self.phase,
            current=_installed(self.current),
            previous=_installed(self.previous),
            trial=_installed(self.trial),
            execution=execution.id if execution else "",
            attempt=execution.attempt if execution else 0,
            outcome=self.outcome,
            reason=self.reason,
            golden=self.golden,
            figures=self.figures,
        )


def _installed(deployed: Deployed | None) -> Installed | None:
    return deployed.installed if deployed else None


@dataclass(frozen=True, slots=True)
class Ticket:
    """Which attempt a result or effect belongs to."""

    execution: str
    attempt: int


# Events: what happened.


@dataclass(frozen=True, slots=True)
class Assigned:
    """The director wants this of the slot."""

    desired: SlotAssignment


@dataclass(frozen=True, slots=True)
class Unassigned:
    """The newest assignment does not name this slot: stop installing, keep what runs."""


@dataclass(frozen=True, slots=True)
class ReleaseVerified:
    """The release is genuine, above the floor, and its variant fits this device."""

    ticket: Ticket
    file: ObjectRef
    golden: ObjectRef
    logits: str
    tolerance: float


@dataclass(frozen=True, slots=True)
class FilesStored:
    """Model and golden vectors are durable, and their digests match. `inside`: may they be installed by now?"""

    ticket: Ticket
    verified: ReleaseVerified
    figures: InstallFigures
    inside: bool = True


@dataclass(frozen=True, slots=True)
class WindowOpened:
    """What the slot waits for may begin."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class CanaryPassed:
    """The child process loaded the model and reproduced the golden vectors."""

    ticket: Ticket
    golden: GoldenResult
    figures: InstallFigures


@dataclass(frozen=True, slots=True)
class TrialServing:
    """The daemon has loaded the trial model; predictions go to it now."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class HealthWindowPassed:
    """The trial model served its window without an error."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class StepFailed:
    """A step ended without success."""

    ticket: Ticket
    outcome: Outcome
    reason: str
    golden: GoldenResult | None = None


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The execution used up its total time."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class RuntimeFailed:
    """A loaded model could not be loaded after all, or failed on a prediction. `sha256` says which."""

    sha256: str
    reason: str


@dataclass(frozen=True, slots=True)
class Booted:
    """The agent started. Which of the models that the record names still have the content they should?

    `suspects`: models that may have ended the starts before this one. They are not served, but tried anew.
    """

    intact: frozenset[str]
    suspects: frozenset[str] = frozenset()


Event = (
    Assigned | Unassigned | ReleaseVerified | FilesStored | WindowOpened | CanaryPassed | TrialServing
    | HealthWindowPassed | StepFailed | TimedOut | RuntimeFailed | Booted
)  # fmt: skip
TicketedEvent = (
    ReleaseVerified | FilesStored | WindowOpened | CanaryPassed | TrialServing | HealthWindowPassed | StepFailed
    | TimedOut
)  # fmt: skip


# Effects: what to do next.


@dataclass(frozen=True, slots=True)
class FetchRelease:
    """Get the release envelope, verify it and check that the variant fits. Arms the execution's total timer."""

    ticket: Ticket
    desired: SlotAssignment


@dataclass(frozen=True, slots=True)
class FetchFiles:
    """Get model and golden vectors onto the disk, verified."""

    ticket: Ticket
    desired: SlotAssignment
    verified: ReleaseVerified


@dataclass(frozen=True, slots=True)
class AwaitWindow:
    """Report `WindowOpened` as soon as the time is in one of `openings`, or that none is to come."""

    ticket: Ticket
    openings: tuple[Opening, ...]


@dataclass(frozen=True, slots=True)
class RunCanary:
    """Load the model in a child process and compare it with its golden vectors."""

    ticket: Ticket
    desired: SlotAssignment
    verified: ReleaseVerified
    figures: InstallFigures


@dataclass(frozen=True, slots=True)
class ServeTrial:
    """Load the trial model into the daemon, beside the current one, and send predictions to it."""

    ticket: Ticket
    deployed: Deployed


@dataclass(frozen=True, slots=True)
class WatchHealth:
    """Report `HealthWindowPassed` after this many seconds."""

    ticket: Ticket
    window_s: float


@dataclass(frozen=True, slots=True)
class Serve:
    """Send predictions to this model, dropping any other (None: there is nothing to serve)."""

    deployed: Deployed | None


@dataclass(frozen=True, slots=True)
class Abandon:
    """Stop whatever still runs for the slot's former execution."""


@dataclass(frozen=True, slots=True)
class CollectGarbage:
    """Remove the objects that no slot refers to, runs or wants: what a failed attempt left must not use up the disk."""


Effect = (
    FetchRelease | FetchFiles | AwaitWindow | RunCanary | ServeTrial | WatchHealth | Serve | Abandon | CollectGarbage
)  # fmt: skip
