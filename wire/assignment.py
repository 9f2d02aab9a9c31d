"""The desired state of one device, signed by the hub's director key. It names a release; it never vouches for one."""

import hashlib
from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

from wire.codec import SCHEMA, Document
from wire.release import Name, ObjectRef, Sha256

MAX_SLOTS: Final = 16
"""Slots of one device; a report has room for as many."""
MAX_OPENINGS: Final = 4
WINDOWS_SCHEMA: Final = 2
"""The first schema whose executions may have windows."""
DIGEST_DIGITS: Final = 16


class Opening(Document, frozen=True, kw_only=True):
    """A time in which something may begin: from `from_ns` to before `until_ns`, since 1970 by the director's clock."""

    from_ns: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    until_ns: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Windows(Document, frozen=True, kw_only=True):
    """When the device may begin to download, and to install what it has downloaded; empty = whenever. An execution
    whose openings are all over ends as timed out."""

    download: Annotated[tuple[Opening, ...], msgspec.Meta(max_length=MAX_OPENINGS)] = ()
    install: Annotated[tuple[Opening, ...], msgspec.Meta(max_length=MAX_OPENINGS)] = ()


class Execution(Document, frozen=True, kw_only=True):
    """One attempt to bring a device to a slot's desired release. Timers are in seconds, and stand still while the
    device waits for a window."""

    id: str
    attempt: Annotated[int, msgspec.Meta(ge=1)] = 1
    step_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    total_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 600.0
    health_window_s: Annotated[float, msgspec.Meta(ge=0)] = 5.0
    windows: Windows | msgspec.UnsetType = msgspec.UNSET
    """Left out where there are none: agents that speak schema 1 only take every other assignment."""


class Delta(Document, frozen=True, kw_only=True):
    """A short cut: an object that, with the object `base` as its dictionary, unpacks to the file wanted."""

    base: Sha256
    file: ObjectRef


class SlotAssignment(Document, frozen=True, kw_only=True):
    """What one model slot shall run: a variant of a release, by digest."""

    slot: Name
    model: Name
    version: int
    variant: Name
    sha256: Sha256
    release: ObjectRef
    """The release document (an object like any other, fetched as chunks); the publisher's metadata must name it."""
    deltas: Annotated[tuple[Delta, ...], msgspec.Meta(max_length=2)] = ()
    min_counter: int = 0
    """Release floor: the device never again accepts a release with a lower counter."""
    execution: Execution


class CapturePolicy(Document, frozen=True, kw_only=True):
    """What the device may keep of what it sees, for learning on the device only."""

    enabled: bool = True
    max_bytes: int = 8 * 1024 * 1024
    max_samples: int = 5_000


class FederatedPolicy(Document, frozen=True, kw_only=True):
    """Whether, and on what conditions, the device may take part in federated learning."""

    enabled: bool = False
    min_samples: int = 16
    holdout_share: float = 0.2


class TransferPolicy(Document, frozen=True, kw_only=True):
    """How the device may use its link. Rates are in bytes per second."""

    max_rate: Annotated[int, msgspec.Meta(ge=1024)] | None = None
    """Bandwidth cap of downloads; None = as fast as it goes."""
    min_rate: Annotated[int, msgspec.Meta(ge=0)] = 256
    """A download slower than this, over `min_rate_window_s` while the link is up, is given up as stalled."""
    min_rate_window_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0


def assignment_digest(assignment: bytes) -> str:
    """The first 16 digits of the SHA-256 of its bytes (no envelope): tells two with the same sequence apart."""
    return hashlib.sha256(assignment).hexdigest()[:DIGEST_DIGITS]


def schema_of(slots: Iterable[SlotAssignment]) -> int:
    """The lowest schema that has all that these slots say."""
    return WINDOWS_SCHEMA if any(slot.execution.windows is not msgspec.UNSET for slot in slots) else SCHEMA


class Assignment(Document, frozen=True, kw_only=True):
    """Everything the hub wants of one device. `sequence` grows with every change; the device never goes back."""

    schema: int = SCHEMA
    device: Name
    sequence: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    issued_ns: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    slots: Annotated[tuple[SlotAssignment, ...], msgspec.Meta(max_length=MAX_SLOTS)] = ()
    capture: CapturePolicy = CapturePolicy()
    federated: FederatedPolicy = FederatedPolicy()
    transfer: TransferPolicy = TransferPolicy()
