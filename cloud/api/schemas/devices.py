"""One device: what it is, its twin, its history, and what operators decide about it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from cloud.api.schemas.base import Label, LabelName, Name, Reason, Request, VersionNumber


class RevocationRequest(Request):
    """Why a device is to be put out of the fleet."""

    reason: Annotated[str, Field(min_length=1, max_length=200)]


class SlotView(BaseModel):
    """A model slot as the device last reported it; the model fields are empty while nothing is committed."""

    slot: str
    phase: str
    model: str | None
    version: int | None
    variant: str | None
    outcome: str | None
    reason: str
    golden_matched: int | None
    golden_total: int | None


class PinView(BaseModel):
    """A slot that stays at one version."""

    slot: str
    model: str
    version: int
    reason: str
    pinned_by: str
    created_ns: int


class DeviceView(BaseModel):
    """A device: what it is, what it should run and what it says it runs."""

    name: str
    labels: dict[str, str]
    federated: bool
    agent: str
    """Version of its agent; empty until it has reported."""
    held_reason: str
    """Why no rollout may take it; empty when any may."""
    decommissioned_ns: int | None
    enrolled: bool
    """Is it of the fleet now: enrolled, and not revoked since?"""
    revoked_ns: int | None
    clone_suspected_ns: int | None
    """Since when two devices seem to speak under this name."""
    certificate_expires_ns: int | None
    """End of its newest certificate; none where devices log in with passwords."""
    online: bool
    seen_ns: int | None
    desired_sequence: int
    accepted_sequence: int
    slots: list[SlotView]
    pins: list[PinView]
    last_refusal: str
    """Why the hub refused the device's last bad message; empty when there was none."""
    refusal_count: int
    reported: dict[str, Any] | None = None
    """Its newest wire.messages.Reported (only when one device is asked for)."""
    telemetry: dict[str, Any] | None = None
    """Its newest wire.messages.Telemetry (only when one device is asked for)."""


class DeviceRequest(Request):
    """What people say of a device beside its labels."""

    federated: bool
    """May it take part in federated learning?"""


class LabelsRequest(Request):
    """Labels to put and to drop; all others stay."""

    put: Annotated[dict[LabelName, Label], Field(max_length=32)] = {}
    drop: Annotated[list[Label], Field(max_length=32)] = []


class PinRequest(Request):
    """Keep a slot at this version: rollouts of another one do not take the device."""

    model: Name
    version: VersionNumber
    reason: Reason


Skew = Literal["unknown", "current", "behind", "ahead", "incompatible"]


class SlotTwinView(BaseModel):
    """A slot: what it shall run (wire.assignment), what the device says (wire.messages), and what is in between."""

    slot: str
    sync: Literal["in_sync", "pending", "installing", "failed", "unassigned"]
    reason: str
    desired: dict[str, Any] | None
    reported: dict[str, Any] | None


class TwinView(BaseModel):
    """The twin of a device. `presence`: away = gone for less than a minute."""

    device: str
    presence: Literal["online", "away", "offline"]
    gone_ns: int | None
    agent: str
    skew: Skew
    """How the control documents that its agent reads lie to those that this hub writes."""
    desired_sequence: int
    accepted_sequence: int
    held: str | None
    """Why no rollout may take it; null = any may."""
    pins: list[PinView]
    slots: list[SlotTwinView]


class EventView(BaseModel):
    """Something that happened to a device. `actor` is empty where it was the device itself."""

    at_ns: int
    event: str
    actor: str
    detail: dict[str, Any]
