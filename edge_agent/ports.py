"""What the device's services need of the world. Matched by shape; the simulator and the tests bring their own.

Paths are relative to the data directory, with `/` between parts. Every operation of `Disk` is one cut point: power may
fail before or after it, and what was not made durable by then may be lost, torn or kept.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edge_agent.core.stats import Tally, Variant
from wire.assignment import Assignment, CapturePolicy
from wire.messages import Capabilities, GoldenResult
from wire.ports import Clock, Ids, Link
from wire.release import Release

if TYPE_CHECKING:  # numpy is not imported before a model is there
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Labels = npt.NDArray[np.int64]


class Disk(Protocol):
    """The data directory. Raises DiskError, FileMissingError, DiskFullError."""

    async def read(self, path: str) -> bytes:
        """The whole file."""

    async def digest(self, path: str) -> str:
        """SHA-256 (hex) of the file, read in pieces."""

    async def size(self, path: str) -> int:
        """Its length in bytes."""

    async def create(self, path: str, size: int) -> None:
        """An empty file of `size` bytes with its space reserved; replaces what was there."""

    async def pwrite(self, path: str, offset: int, data: bytes) -> None:
        """Write at `offset`."""

    async def fsync(self, path: str) -> None:
        """Make the file's content durable."""

    async def rename(self, source: str, target: str) -> None:
        """Rename atomically, replacing `target`."""

    async def unlink(self, path: str) -> None:
        """Remove the file."""

    async def fsync_dir(self, path: str) -> None:
        """Make creations, renames and removals in the directory durable."""

    async def list(self, path: str) -> tuple[str, ...]:
        """Names in the directory, sorted."""

    async def free_bytes(self) -> int:
        """Room left."""


class Trust(Protocol):
    """Who may say what. Pure functions of bytes. Raises RefusedError with the reason."""

    def verify_assignment(self, envelope: bytes, floor: int) -> Assignment:
        """An assignment for this device, signed by the director, not older than sequence `floor`."""

    def verify_release(self, envelope: bytes) -> Release:
        """A release that the publisher signed."""


@dataclass(frozen=True, slots=True)
class CanaryRequest:
    """What the child is to try. `model` and `golden` are paths of objects."""

    model: str
    golden: str
    logits: str
    tolerance: float
    time_limit_s: float


@dataclass(frozen=True, slots=True)
class CanaryVerdict:
    """What it saw. `reason` is empty when the model passed."""

    reason: str
    golden: GoldenResult | None = None
    p50_ms: float = 0.0
    rss_bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class UnpackRequest:
    """A delta to be unpacked: paths of two objects and of the part file, which has `length` bytes of room."""

    base: str
    delta: str
    target: str
    base_bytes: int
    length: int
    time_limit_s: float


class Installer(Protocol):
    """Tries a model in a process of its own, so that a hostile file cannot take the daemon with it."""

    async def canary(self, request: CanaryRequest) -> CanaryVerdict:
        """Never raises for what the model does: a crash or time-out is a verdict with its reason."""

    async def unpack(self, request: UnpackRequest) -> str:
        """Write the target, whose digest nobody has checked yet. Returns why that failed; empty: it did not."""


class Session(Protocol):
    """A loaded model. Its memory is given back when the last reference goes."""

    async def predict(self, x: "Floats") -> "Floats":
        """Logits [N, classes] of inputs [N, ...]. Raises ModelError."""


class Runtime(Protocol):
    """Loads models into the daemon."""

    async def load(self, path: str) -> Session:
        """Load the object at `path`. Raises ModelError."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer of the model, as it is kept. `window` is the input as float32 little-endian bytes."""

    id: str
    variant: Variant
    window: bytes
    shape: tuple[int, ...]
    predicted: int
    confidence: float
    latency_ns: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class Counts:
    """Cumulative counters of everything this device did. `captured` is the number of windows held now."""

    tallies: tuple[Tally, ...]
    captured: int


class Captures(Protocol):
    """Bounded memory of what the model saw and said. Survives a kill once a call has returned."""

    async def set_policy(self, policy: CapturePolicy) -> None:
        """Bounds from now on; what exceeds them is removed at once."""

    async def record(self, prediction: Prediction) -> None:
        """Count a prediction and keep its window if the policy allows."""

    async def feedback(self, prediction_id: str, label: int) -> None:
        """Join the truth to a prediction, once. Raises UnknownPredictionError, FeedbackGivenError."""

    async def samples(self) -> "tuple[Floats, Labels]":
        """Labelled windows [N, ...] and labels [N], in the order they were captured."""

    async def counts(self) -> Counts:
        """The counters."""

    def close(self) -> None:
        """Close the store cleanly."""


class Machine(Protocol):
    """Facts about the computer."""

    def capabilities(self, free_bytes: int) -> Capabilities:
        """What it can run."""

    def peak_rss_bytes(self) -> int:
        """Largest resident size of this process so far."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything the services stand on."""

    link: Link
    clock: Clock
    ids: Ids
    disk: Disk
    trust: Trust
    installer: Installer
    runtime: Runtime
    captures: Captures
    machine: Machine
