"""What the device's services need of the world. Matched by shape; the simulator and the tests bring their own.

Paths are relative to the data directory, with `/` between parts. Every operation of `Disk` is one cut point: power may
fail before or after it, and what was not made durable by then may be lost, torn or kept.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edge_agent.core.identity import Identity
from edge_agent.core.lifetime import Lifetime
from edge_agent.core.stats import Classes, Tally, Variant
from edge_agent.core.trust import Judgement, Question
from federated.device.ports import MakeTrainer
from wire.asks import AskMetadata, MetadataPiece, Refused
from wire.assignment import CapturePolicy
from wire.dsse import Verify
from wire.messages import Capabilities, GoldenResult
from wire.ports import Clock, Ids, Link
from wire.release import Learning

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

    async def digests(self, path: str, piece_bytes: int) -> tuple[str, ...]:
        """SHA-256 (hex) of each piece of the file, the last one being shorter."""

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


FetchMetadata = Callable[[AskMetadata], Awaitable[MetadataPiece | Refused]]
"""Gets a piece of trust metadata from the cloud, or says why not; never raises for want of an answer."""


class Trust(Protocol):
    """Who may say what."""

    @property
    def root(self) -> bytes:
        """The root of trust in the claim."""

    @property
    def built_ns(self) -> int:
        """When this software was built: no right clock says less."""

    def verifiers(self, directors: Iterable[str]) -> Mapping[str, Verify]:
        """Key id -> verification, for these public keys (64 hex digits). Pure."""

    async def judge(self, question: Question, fetch: FetchMetadata, limit_s: float) -> Judgement:
        """What the repository says, within `limit_s` seconds. Never raises for what it serves."""


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """A new private key and the request (PKCS #10) for a certificate for it, both PEM."""

    key: str
    csr: str


class Keys(Protocol):
    """Keys of the device's own, and what their certificates say."""

    def make(self, name: str) -> KeyRequest:
        """A new P-256 key and a signing request in this name."""

    def proof(self, key: str, message: bytes) -> bytes:
        """ECDSA signature (SHA-256, DER) of `message`."""

    def fit(self, certificate: str, key: str) -> bool:
        """Is this a certificate for this key?"""

    def lifetime(self, certificate: str) -> Lifetime:
        """Its first and last moment."""


class Access(Protocol):
    """How the broker takes this device's login."""

    @property
    def trouble(self) -> str:
        """Why there is no connection; empty when there is one."""

    @property
    def refused(self) -> bool:
        """Is there none because the broker does not accept the login?"""

    async def change(self, identity: Identity) -> None:
        """Log in anew with `identity`; with the one of before when that fails. Raises LoginRefusedError, LinkError."""


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


@dataclass(frozen=True, slots=True)
class RehearsalRequest:
    """Which graphs the child is to learn with: paths of two objects. `input` is the shape of the model's input."""

    train_step: str
    eval: str
    learning: Learning
    input: tuple[int, ...]
    classes: int
    time_limit_s: float


class Installer(Protocol):
    """Tries files in a process of its own, so that a hostile one cannot take the daemon with it."""

    async def canary(self, request: CanaryRequest) -> CanaryVerdict:
        """Never raises for what the model does: a crash or time-out is a verdict with its reason."""

    async def unpack(self, request: UnpackRequest) -> str:
        """Write the target, whose digest nobody has checked yet. Returns why that failed; empty: it did not."""

    async def rehearse(self, request: RehearsalRequest) -> str:
        """Learn a little from made-up windows. Returns why the graphs cannot; empty: they can."""


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

    async def feedback(self, prediction_id: str, label: int, classes: Classes) -> None:
        """Join the truth to a prediction, once. Raises RequestError and its kinds, as `core.stats.check_label`."""

    async def samples(self, model: str) -> "tuple[Floats, Labels]":
        """Labelled windows [N, ...] that any version of `model` answered, and labels [N], in capture order."""

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
    make_trainer: MakeTrainer
