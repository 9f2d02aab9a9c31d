"""What the operator does, step by step. Each step is plain data; `simulator.operator` carries it out."""

from typing import Annotated, Literal

import msgspec

from cloud.core.rollout import Plan, Wave
from simulator.durations import Duration
from simulator.faults.fault import Among, Count, FleetSize, Moment, Share, tag_of
from simulator.scenario.population import Name

Key = Literal["director", "online", "publisher", "root 1", "root 2", "root 3"]
Strategy = Literal["FedAvg", "FedAvgM", "FedAdam", "FedYogi", "FedMedian", "FedTrimmedAvg", "Krum", "MultiKrum"]
"""Those of Flower's that make sense of a few numbers."""
DEFAULT_PLAN = Plan(waves=(Wave(count=1), Wave(percent=25), Wave(percent=100)))


class Step(Moment, frozen=True, kw_only=True, tag_field="do", tag=tag_of):
    """Steps happen in the order of the file, each at its moment or, if that has passed, at once. By its `name` later
    ones and faults refer to it."""

    name: str = ""


class Publish(Step, frozen=True, kw_only=True):
    """The next version of a model is trained, judged and signed."""

    model: Name = "simulated"


class RollOut(Step, frozen=True, kw_only=True):
    """A version (the newest, unless one is named) goes out to all devices that the selector means.

    The plan has the fields of `POST /rollouts`.
    """

    model: Name = "simulated"
    version: Count | None = None
    slot: Name = "main"
    selector: dict[str, str] = {}
    plan: Plan = DEFAULT_PLAN


class Pause(Step, frozen=True, kw_only=True):
    """Nobody else is asked."""

    rollout: str


class Approve(Step, frozen=True, kw_only=True):
    """The next wave may open."""

    rollout: str


class Resume(Step, frozen=True, kw_only=True):
    """Go on; failures so far have been seen."""

    rollout: str


class Abort(Step, frozen=True, kw_only=True):
    """End it; devices keep what they run."""

    rollout: str


class Revert(Step, frozen=True, kw_only=True):
    """End it; devices get back what they ran."""

    rollout: str


class Hold(Step, frozen=True, kw_only=True):
    """No rollout may take these devices."""

    devices: Among
    reason: str = "held by the scenario"


class Release(Step, frozen=True, kw_only=True):
    """Rollouts may take these devices again."""

    devices: Among


class Halt(Step, frozen=True, kw_only=True):
    """Nobody in the fleet is assigned anything."""

    reason: str = "halted by the scenario"


class LiftHalt(Step, frozen=True, kw_only=True):
    """The fleet goes on."""


class RotateKeys(Step, frozen=True, kw_only=True):
    """The holders of the root sign a next root that names new keys in place of these."""

    keys: Annotated[tuple[Key, ...], msgspec.Meta(min_length=1)]


class RenewMetadata(Step, frozen=True, kw_only=True):
    """The publisher comes by and signs again what is past half of its life."""


class Revoke(Step, frozen=True, kw_only=True):
    """The identity of these devices ends."""

    devices: Among
    reason: str = "revoked by the scenario"


class Decommission(Step, frozen=True, kw_only=True):
    """These devices are taken out for good."""

    devices: Among
    reason: str = "decommissioned by the scenario"


class AddDevices(Step, frozen=True, kw_only=True, rename={"device_class": "class"}):
    """New devices of a class are announced, switched on, and enrol."""

    device_class: str
    count: FleetSize


class Federate(Step, frozen=True, kw_only=True):
    """Devices learn, from a version (the newest, unless one is named) on: those of the selector whose class takes part.

    Each round asks the share `clients` of who is online. A step (training, or evaluation by everybody) ends when all
    have answered or after `deadline`; it counts with answers from the share `quorum` of those whom a round asks when
    everybody is there. `patience`: how long a step waits for devices that are away.
    """

    model: Name = "simulated"
    version: Count | None = None
    selector: dict[str, str] = {}
    strategy: Strategy = "FedAvg"
    strategy_args: dict[str, float | int | bool | str] = {}
    rounds: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 5
    clients: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    quorum: Share = 0.5
    deadline: Duration = "2m"
    patience: Duration = "20s"
    epochs: Annotated[int, msgspec.Meta(ge=1, le=100)] = 2
    lr: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.25


class Adopt(Step, frozen=True, kw_only=True):
    """The publisher signs the version that a federated run has made, if it has: from now on it can be rolled out."""

    run: str


AnyStep = (
    Publish
    | RollOut
    | Pause
    | Approve
    | Resume
    | Abort
    | Revert
    | Hold
    | Release
    | Halt
    | LiftHalt
    | RotateKeys
    | RenewMetadata
    | Revoke
    | Decommission
    | AddDevices
    | Federate
    | Adopt
)
Steering = Pause | Approve | Resume | Abort | Revert
"""Steps about a rollout that an earlier step began."""
