"""Federated runs."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from cloud.api.schemas.base import IDENTIFIER, Label, Labels, Name, Request, VersionNumber

Text = Annotated[str, Field(max_length=1000)]


class TrainRequest(Request):
    """What devices are told for local training."""

    local_epochs: Annotated[int, Field(ge=1, le=100, alias="local-epochs")] = 2
    lr: Annotated[float, Field(gt=0, le=10)] = 0.02
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9


class NonInferiorityRequest(Request):
    """The devices that the selector matches may lose at most `margin` of accuracy (mean over them)."""

    selector: Labels
    margin: Annotated[float, Field(ge=0, le=1)]


class TolerancesRequest(Request):
    """What the run puts up with: how long devices have for one step, how long it waits for devices that are away, how
    many answers a step needs, how often a step that got fewer is repeated."""

    step_timeout_s: Annotated[float, Field(gt=0, le=7 * 86_400)] = 120.0
    gather_s: Annotated[float, Field(ge=0, le=86_400)] = 20.0
    offline_grace_s: Annotated[float, Field(ge=0, le=86_400)] = 15.0
    quorum: Annotated[int, Field(ge=1, le=1_000_000)] = 2
    attempts: Annotated[int, Field(ge=1, le=100)] = 3


class FederatedRequest(Request):
    """Learn on the devices, from a released version on. Eligible: federated, enrolled, matched by the selector."""

    model: Name
    version: VersionNumber
    selector: Labels = {}
    strategy: Annotated[str, Field(pattern=IDENTIFIER)] = "FedAvg"
    strategy_args: Annotated[dict[Label, float | int | bool | Text], Field(max_length=64)] = {}
    rounds: Annotated[int, Field(ge=1, le=10_000)] = 10
    train: TrainRequest = TrainRequest()
    evaluate_every: Annotated[int, Field(ge=0, le=10_000)] = 1
    non_inferiority: NonInferiorityRequest | None = None
    tolerances: TolerancesRequest = TolerancesRequest()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class RoundView(BaseModel):
    """One round as the aggregator reported it; bytes are MQTT payload bytes published and received by the cloud."""

    round: int
    clients: int
    failures: list[Any]
    train_loss: float | None
    eval_acc: float | None
    eval_loss: float | None
    bytes_down: int
    bytes_up: int
    seconds: float


class FederatedView(BaseModel):
    """A federated run."""

    id: str
    model: str
    version: int
    state: Literal["running", "deriving", "succeeded", "refused", "failed"]
    reason: str
    strategy: str
    devices: list[str]
    rounds_planned: int
    rounds: list[RoundView]
    verdict: dict[str, Any] | None
    result_version: int | None
    created_ns: int
    finished_ns: int | None
