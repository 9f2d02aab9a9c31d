"""What the device counts per model variant, as values that add up, and how they are told to the hub."""

from dataclasses import dataclass, field

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
