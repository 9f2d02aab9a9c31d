"""How it has to end: a closed set of things that can be expected. `simulator.judging` looks whether they are so."""

from typing import Annotated, Literal

import msgspec

from simulator.durations import Duration
from simulator.faults.fault import EVERYBODY, Among, Share, tag_of
from simulator.scenario.population import Name, Strict
from wire.messages import Outcome

State = Literal["running", "waiting_for_approval", "paused", "halted", "aborted", "succeeded"]
Number = Annotated[int, msgspec.Meta(ge=0)]


class Bounds(Strict, frozen=True, kw_only=True):
    """How many devices: absolute, or as a share of those in question."""

    at_least: Number | None = None
    at_most: Number | None = None
    share_at_least: Share | None = None
    share_at_most: Share | None = None

    def why_not(self, count: int, of: int) -> str:
        """What is wrong with so many of so many; empty: nothing."""
        share = count / of if of else 1.0
        if self.at_least is not None and count < self.at_least:
            return f"fewer than {self.at_least}"
        if self.at_most is not None and count > self.at_most:
            return f"more than {self.at_most}"
        if self.share_at_least is not None and share < self.share_at_least:
            return f"less than {self.share_at_least:.4g} of them"
        if self.share_at_most is not None and share > self.share_at_most:
            return f"more than {self.share_at_most:.4g} of them"
        return ""

    def __str__(self) -> str:
        if self == ALL:
            return "all"
        if self == NONE:
            return "nobody"
        limits = (
            ("at least {}", self.at_least),
            ("at most {}", self.at_most),
            ("at least {:.3%}", self.share_at_least),
            ("at most {:.3%}", self.share_at_most),
        )
        return ", ".join(text.format(limit) for text, limit in limits if limit is not None) or "any number"


ALL = Bounds(share_at_least=1.0)
NONE = Bounds(at_most=0)


class RolloutEnds(Strict, frozen=True, kw_only=True, tag_field="expect", tag=tag_of):
    """A rollout is in this state at the end, for a reason that contains this text, and got there within this time."""

    rollout: str
    state: State
    reason: str = ""
    within: Duration | None = None


class Run(Strict, frozen=True, kw_only=True, tag_field="expect", tag=tag_of):
    """So many of the devices have committed this version (0: none at all), by their own disks. Default: all."""

    version: Number
    devices: Among = EVERYBODY
    slot: Name = "main"
    number: Bounds = ALL


class Exposed(Strict, frozen=True, kw_only=True, tag_field="expect", tag=tag_of):
    """So many of the devices were assigned the rollout's version. Default: none."""

    rollout: str
    devices: Among = EVERYBODY
    number: Bounds = NONE


class Ended(Strict, frozen=True, kw_only=True, tag_field="expect", tag=tag_of):
    """In the rollout, so many of the devices ended like this, for a reason that contains this text. Default: all."""

    rollout: str
    outcome: Outcome
    devices: Among = EVERYBODY
    reason: str = ""
    number: Bounds = ALL


class Converged(Strict, frozen=True, kw_only=True, tag_field="expect", tag=tag_of):
    """Within this time after everything else, the hub's database says of every device what is true of it, and every
    device has accepted what is desired of it. Devices that were taken out of the fleet, or have no network then, are
    left aside."""

    within: Duration = "10m"


class NoRefusals(Strict, frozen=True, kw_only=True, tag_field="expect", tag=tag_of):
    """Nobody reached beyond its access rights at the broker."""


class TrustRoot(Strict, frozen=True, kw_only=True, tag_field="expect", tag=tag_of):
    """So many of the devices have verified this version of the root. Default: all."""

    version: Number
    devices: Among = EVERYBODY
    number: Bounds = ALL


class Refused(Strict, frozen=True, kw_only=True, tag_field="expect", tag=tag_of):
    """So many of the devices told the hub that they refuse the newest desired document, for a reason with this text."""

    reason: str = ""
    devices: Among = EVERYBODY
    number: Bounds = ALL


class Certified(Strict, frozen=True, kw_only=True, tag_field="expect", tag=tag_of):
    """So many of the devices log in with a certificate that is valid now, and is not the one that they began with if
    it was `renewed`. Default: all."""

    devices: Among = EVERYBODY
    renewed: bool = False
    number: Bounds = ALL


class FederatedEnds(Strict, frozen=True, kw_only=True, tag_field="expect", tag=tag_of):
    """A federated run is in this state at the end, for a reason that contains this text, after so many rounds."""

    run: str
    state: Literal["succeeded", "refused", "failed"] = "succeeded"
    reason: str = ""
    rounds: Number | None = None


class FederatedAccuracy(Strict, frozen=True, kw_only=True, tag_field="expect", tag=tag_of):
    """So good is what a federated run came to: mean over the devices, each on its own holdout. Where not all of them
    could be asked at the end, the last round counts."""

    run: str
    at_least: Share = 0.0
    at_most: Share = 1.0


class UpdatesRefused(Strict, frozen=True, kw_only=True, tag_field="expect", tag=tag_of):
    """Of so many of the devices an answer did not count in some round, for a reason with this text. Default: all."""

    run: str
    reason: str = ""
    devices: Among = EVERYBODY
    number: Bounds = ALL


Federated = FederatedEnds | FederatedAccuracy | UpdatesRefused
"""What is expected of a federated run."""
AnyExpectation = (
    RolloutEnds
    | Run
    | Exposed
    | Ended
    | Converged
    | NoRefusals
    | TrustRoot
    | Refused
    | Certified
    | FederatedEnds
    | FederatedAccuracy
    | UpdatesRefused
)
