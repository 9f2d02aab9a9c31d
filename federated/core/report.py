"""What a run says about itself: one line per round, and the result that becomes `result.json`."""

from typing import Annotated

import msgspec

from wire.codec import Document


class Failure(Document, frozen=True, kw_only=True):
    """A device whose answer did not count, and why."""

    device: str
    reason: str


class RoundReport(Document, frozen=True, kw_only=True):
    """One round as measured. `bytes_down`: published by the aggregator, `bytes_up`: received from devices (payload)."""

    event: str = "round"
    round: int
    clients: int
    failures: tuple[Failure, ...] = ()
    train_loss: float | None = None
    eval_acc: float | None = None
    eval_loss: float | None = None
    bytes_down: int = 0
    bytes_up: int = 0
    seconds: float = 0.0


class Evaluation(Document, frozen=True, kw_only=True):
    """Every device has evaluated the starting (`when` = before) or the final parameters (after)."""

    event: str = "evaluation"
    when: str
    clients: int
    accuracy: float
    """Mean over devices, each counting once."""


class StepShort(Document, frozen=True, kw_only=True):
    """Too few answers were accepted: the step is repeated, or the run ends."""

    event: str = "short"
    step: str
    accepted: int


class Started(Document, frozen=True, kw_only=True):
    """The aggregator is up. `resumed`: it found steps taken by an earlier process."""

    event: str = "started"
    run: str
    strategy: str
    devices: int
    resumed: bool


class Ended(Document, frozen=True, kw_only=True):
    """The last line: "done", or "failed" with the reason."""

    event: str
    rounds: int = 0
    reason: str = ""


class Measured(Document, frozen=True, kw_only=True):
    """What one device measured on its own holdout."""

    device: str
    examples: int
    accuracy: float
    loss: float


class DeviceResult(Document, frozen=True, kw_only=True):
    """One device before and after, on its own holdout; None where it gave no answer."""

    labels: dict[str, str] = {}
    examples: int = 0
    accuracy_before: float | None = None
    accuracy_after: float | None = None
    rounds_trained: int = 0


class Totals(Document, frozen=True, kw_only=True):
    """Sums over the rounds (evaluations before the first and after the last round excluded)."""

    bytes_down: int
    bytes_up: int
    seconds: float
    failures: int


class Result(Document, frozen=True, kw_only=True):
    """A finished run. `parameters` names the file beside this one."""

    run: str
    model: str
    version: Annotated[int, msgspec.Meta(ge=1)]
    strategy: str
    rounds: int
    parameters: str
    devices: dict[str, DeviceResult]
    totals: Totals
    history: tuple[RoundReport, ...]
