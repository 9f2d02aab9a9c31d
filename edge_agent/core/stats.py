"""What the device counts per model variant, as values that add up, and how they are told to the hub."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_agent.errors import RequestError
from wire.histogram import bucket
from wire.messages import ModelStats

MAX_STATS = 64
"""Variants a telemetry message has room for; the ones used last are told."""


@dataclass(frozen=True, slots=True)
class Variant:
    """The identity that counters are kept under."""

    model: str
    version: int
    variant: str


Classes = Mapping[str, int]
"""Model that serves -> how many classes it knows; at least one of them."""


def check_label(label: int, model: str, classes: Classes) -> None:
    """Can this be the truth about an answer of `model`? Of one that serves no more, any class of the others may be.

    Raises RequestError.
    """
    count = classes.get(model) or max(classes.values())
    if not 0 <= label < count:
        raise RequestError(f"label {str(label)[:20]} is none of the classes 0 to {count - 1} of {model}")


@dataclass(frozen=True, slots=True)
class Tally:
    """Counters of one variant since it was first run here. `latency_us` is a histogram of `wire.histogram`."""

    variant: Variant
    predictions: int = 0
    feedback: int = 0
    correct: int = 0
    confidence_sum: float = 0.0
    latency_us: dict[int, int] = field(default_factory=dict)

    def told(self) -> ModelStats:
        """The same, as it travels."""
        return ModelStats(
            model=self.variant.model,
            version=self.variant.version,
            variant=self.variant.variant,
            predictions=self.predictions,
            feedback=self.feedback,
            correct=self.correct,
            confidence_sum=self.confidence_sum,
            latency_us=self.latency_us,
        )


def latency_bucket(latency_ns: int) -> int:
    """The histogram bucket of a latency."""
    return bucket(latency_ns / 1_000)
