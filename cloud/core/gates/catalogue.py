"""What devices measure and gates may ask for. A new fact is an entry here and a line where the hub observes it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Unit(StrEnum):
    """What a fact is measured in; gates compare like with like only."""

    SHARE = "share"
    MILLISECONDS = "ms"
    MEGABYTES = "MB"


@dataclass(frozen=True, slots=True)
class Fact:
    """One figure per device and version.

    `event`: it is yes or no for each device, so that a gate asks for a proportion of devices; otherwise for a mean over
    devices. `compared`: what ran before, on the same device or on a control group, has the figure, too.
    """

    name: str
    unit: Unit
    meaning: str
    event: bool = False
    compared: bool = False


COMMIT_RATE: Final = "commit_rate"
GOLDEN_AGREEMENT: Final = "golden_agreement"
LATENCY: Final = "latency_ms"
MEMORY: Final = "memory_mb"
ACCURACY: Final = "accuracy"
CONFIDENCE: Final = "confidence"

CATALOGUE: Final[dict[str, Fact]] = {
    fact.name: fact
    for fact in (
        Fact(COMMIT_RATE, Unit.SHARE, "devices that committed, of those whose execution ended", event=True),
        Fact(GOLDEN_AGREEMENT, Unit.SHARE, "golden vectors that the device's own runtime reproduced"),
        Fact(MEMORY, Unit.MEGABYTES, "resident memory of the child that tried the model"),
        Fact(LATENCY, Unit.MILLISECONDS, "median time of a prediction", compared=True),
        Fact(ACCURACY, Unit.SHARE, "predictions that feedback found right", compared=True),
        Fact(CONFIDENCE, Unit.SHARE, "mean confidence of a prediction", compared=True),
    )
}
