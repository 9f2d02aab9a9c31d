"""Jobs, models, versions, and the publisher's decisions about them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from cloud.api.schemas.base import Name, Request


class JobRequest(Request):
    """Train a new version of `model` from `workload` (a registered name or "module:attribute")."""

    kind: Literal["train"]
    model: Name
    workload: Annotated[str, Field(min_length=1, max_length=200)]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class JobView(BaseModel):
    """A job in its own process, with what it said about its progress (oldest first, the last 200)."""

    id: str
    kind: str
    state: Literal["queued", "running", "stopping", "succeeded", "failed"]
    model: str
    federated_run: str | None
    attempts: int
    error: str
    created_ns: int
    started_ns: int | None
    finished_ns: int | None
    events: list[dict[str, Any]] = []
    version: int | None = None
    """The version that it made, if it made one."""


class ModelView(BaseModel):
    """A model and how far its versions go."""

    name: str
    workload: str
    last_version: int
    production: int | None
    """The version in production."""


class VersionView(BaseModel):
    """One version. `release` and `card` are wire.release documents; `card.candidates` holds what was measured."""

    model: str
    version: int
    counter: int
    state: Literal["awaiting_signature", "released", "refused"]
    reason: str
    chosen: str
    parent_version: int | None
    federated_run: str | None
    job: str
    created_ns: int
    released_ns: int | None
    retired: str
    """Why nobody may use it any more; empty when it may be used."""
    release: dict[str, Any]
    card: dict[str, Any]


class SigningRequestView(BaseModel):
    """A release that waits for the publisher (`payload`: base64 of the exact bytes to sign)."""

    id: str
    model: str
    version: int
    payload: str
    gate_report: dict[str, Any]
    state: Literal["pending", "signed", "refused"]
    reason: str
    created_ns: int


class RefusalRequest(Request):
    """Why the publisher does not sign."""

    reason: Annotated[str, Field(min_length=1, max_length=500)]
