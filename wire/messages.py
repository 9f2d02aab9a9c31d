"""Messages between a device and the cloud, outside federated learning.

Reports are state, not events: each one says how things stand, so a lost, repeated or late one does no harm. `seq` grows
over the whole life of a device (boot number in the high 32 bits), which is how the hub tells new from old.
"""

from enum import StrEnum
from typing import Annotated

import msgspec

from wire.codec import SCHEMA, SPEAKS, Document
from wire.release import Name, Sha256


class Phase(StrEnum):
    """How far a device is with what it was assigned. The strings are persisted on devices and never change.

    It waits (for a window) only where an assignment says so.
    """

    IDLE = "idle"
    FETCHING_RELEASE = "fetching_release"
    FETCHING = "fetching"
    VERIFYING = "verifying"
    TRIAL = "trial"
    WAITING_TO_FETCH = "waiting_to_fetch"
    WAITING_TO_INSTALL = "waiting_to_install"
    COMMITTED = "committed"
    FAILED = "failed"


class Outcome(StrEnum):
    """How an execution ended, in the words an operator uses."""

    SUCCEEDED = "succeeded"
    FAILED_NO_CHANGE = "failed_no_change"
    ROLLED_BACK = "rolled_back"
    UNABLE_TO_ROLL_BACK = "unable_to_roll_back"
    REJECTED = "rejected"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


class Installed(Document, frozen=True, kw_only=True):
    """A release variant that lies on the device."""

    model: Name
    version: int
    variant: Name
    sha256: Sha256


class GoldenResult(Document, frozen=True, kw_only=True):
    """What the canary child saw when it ran the golden vectors on this device's own runtime."""

    matched: int
    total: int
    max_error: float
    """Largest |delta logit| as a share of the range of the expected logits."""


class InstallFigures(Document, frozen=True, kw_only=True):
    """What the last installation cost."""

    downloaded_bytes: int = 0
    download_s: float = 0.0
    canary_s: float = 0.0
    canary_rss_bytes: int = 0
    by_delta: bool = False
    """The model was unpacked from a delta; its bytes are those downloaded."""
    delta_refused: Annotated[str, msgspec.Meta(max_length=200)] = ""
    """Why a delta that was offered was of no use, so that the whole model had to come."""


class SlotReport(Document, frozen=True, kw_only=True):
    """State of one model slot."""

    slot: Name
    phase: Phase
    current: Installed | None = None
    previous: Installed | None = None
    trial: Installed | None = None
    execution: str = ""
    attempt: int = 0
    outcome: Outcome | None = None
    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""
    golden: GoldenResult | None = None
    figures: InstallFigures = InstallFigures()


class Capabilities(Document, frozen=True, kw_only=True):
    """What a device can run."""

    engines: dict[str, str]
    """Engine name -> version, e.g. {"onnxruntime": "1.31.1"}."""
    max_opset: int
    machine: str
    python: str
    ram_bytes: int
    disk_free_bytes: int
    accelerators: tuple[str, ...] = ()
    """What the engines can compute on beside the CPU, e.g. ("cuda",)."""
    operators: tuple[str, ...] | None = None
    """Operators of a reduced runtime build ("Conv", "com.microsoft::QLinearAdd"), or of one with custom operators.
    None = a full build; `wire.compatibility` says what that contains."""
    modules: dict[str, bool] = {}
    """Can these be imported here? Answers whether torch or flwr are present."""


class Status(Document, frozen=True, kw_only=True):
    """Presence: retained, and set to offline by the last will."""

    schema: int = SCHEMA
    online: bool
    boot: int = 0
    session: Annotated[str, msgspec.Meta(max_length=64)] = ""
    """Random for each start of the agent. Two that take turns show one identity on two devices."""


class TrustReport(Document, frozen=True, kw_only=True):
    """The newest trust metadata that the device has verified: version numbers that never fall."""

    root: int = 0
    timestamp: int = 0
    snapshot: int = 0
    verified_ns: int = 0
    """When it last found the timestamp fresh, by signed time. Told with other news, or once half of a timestamp's life
    has passed since the last report."""


class Reported(Document, frozen=True, kw_only=True):
    """The whole reported state of a device."""

    schema: int = SCHEMA
    seq: int
    sequence: int
    """Sequence number of the newest assignment that the device accepted."""
    digest: Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{16})?$")] = ""
    """`wire.assignment.assignment_digest` of that one; empty = there is none, or an agent of before accepted it."""
    agent: str
    speaks: tuple[int, int] = SPEAKS
    capabilities: Capabilities
    slots: Annotated[tuple[SlotReport, ...], msgspec.Meta(max_length=16)] = ()
    finished: Annotated[tuple[SlotReport, ...], msgspec.Meta(max_length=16)] = ()
    """How executions ended that a slot has left for a newer one: told until the hub has receipted them."""
    trust: TrustReport = TrustReport()
    certificate_expires_ns: int = 0
    """End of its certificate's life; 0 = it logs in with a password."""
    refused: Annotated[str, msgspec.Meta(max_length=500)] = ""
    """Why the newest desired document was not accepted, if it was not."""


class ModelStats(Document, frozen=True, kw_only=True):
    """Counters for one variant since it was first run here. They only grow."""

    model: Name
    version: int
    variant: Name
    predictions: int
    feedback: int
    correct: int
    confidence_sum: float
    latency_us: dict[int, int]
    """Histogram of `wire.histogram`."""


class Telemetry(Document, frozen=True, kw_only=True):
    """What the device measured: counters that only grow, as they stood at `at_ns`. `seq` never repeats nor falls."""

    schema: int = SCHEMA
    seq: int
    after: int = 0
    """Set when it is sent: the message before it, while that one has no receipt yet. The hub takes no message whose
    predecessor it lacks, so that a receipt can mean everything up to it. 0 = the oldest that the device still has."""
    at_ns: int = 0
    dropped: int = 0
    """Messages that the full outbox had to drop, oldest first, since the device began to count."""
    stats: Annotated[tuple[ModelStats, ...], msgspec.Meta(max_length=64)] = ()
    captured: int = 0
    federated_updates_sent: int = 0
    peak_rss_bytes: int = 0


class Receipt(Document, frozen=True, kw_only=True):
    """The hub has durably taken everything of `channel` up to `seq`: the device may stop re-sending it."""

    schema: int = SCHEMA
    channel: str
    seq: int


class Want(Document, frozen=True, kw_only=True):
    """The cloud asks a device for chunks of an object that the device offered."""

    schema: int = SCHEMA
    sha256: Sha256
    indices: Annotated[tuple[int, ...], msgspec.Meta(max_length=64)]
