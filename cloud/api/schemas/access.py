"""API keys, and what was changed by whom."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from cloud.api.schemas.base import Label, LabelName, Name, Request

Role = Literal["viewer", "operator", "publisher", "admin"]


class FailingJob(BaseModel):
    """A job of the hub that fails by a defect, again and again. `error`: its kind and where; the log has all of it."""

    job: str
    since_ns: int
    last_ns: int
    error: str


class Health(BaseModel):
    """Is the hub up, can it reach its devices, and do all of its jobs get done?"""

    status: Literal["ok", "degraded"]
    broker_connected: bool
    failing: list[FailingJob]
    version: str


class KeyRequest(Request):
    """Make an API key. It is shown once and kept as a digest.

    `labels` and `models` bound what it reaches: devices that carry all these labels, only these models.
    """

    name: Name
    role: Role
    labels: Annotated[dict[LabelName, Label], Field(max_length=32)] = {}
    models: Annotated[list[Name], Field(max_length=100)] = []
    expires_in_s: Annotated[int, Field(ge=60, le=10 * 365 * 24 * 3600)] | None = None
    """None = it does not expire."""
    requests_per_s: Annotated[float, Field(ge=0.1, le=10_000)] | None = None
    """None = as the hub does it for all."""


class KeyView(BaseModel):
    """An API key, without what makes it one."""

    id: str
    name: str
    role: Role
    state: Literal["usable", "expired", "revoked"]
    labels: dict[str, str]
    models: list[str]
    requests_per_s: float | None
    created_ns: int
    expires_ns: int | None
    revoked_ns: int | None
    used_ns: int | None
    """When it was last used, to within some minutes."""


class NewKeyView(KeyView):
    """A new API key, for `Authorization: Bearer`."""

    key: str


class ChangeView(BaseModel):
    """That something changed; what exactly stands in the audit trail under the same id."""

    id: int
    at_ns: int
    action: str
    subject: str


class AuditView(BaseModel):
    """A change: who made it, through which request, and what it replaced, where that can be said."""

    id: int
    at_ns: int
    actor: str
    """Name of an API key, `hub` for what the hub does by itself, `device:NAME` for what a device does."""
    request: str
    action: str
    subject: str
    detail: dict[str, Any]
    before: dict[str, Any] | None
    after: dict[str, Any] | None
