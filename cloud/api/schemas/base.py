"""What all bodies have in common: requests refuse unknown fields, times are integer nanoseconds since 1970."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]

VersionNumber = Annotated[int, Field(ge=1, lt=2**31)]

Count = Annotated[int, Field(ge=1, lt=2**31)]

Label = Annotated[str, Field(max_length=63)]

LabelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$")]

Labels = Annotated[dict[Label, Label], Field(max_length=32)]

Reason = Annotated[str, Field(min_length=1, max_length=500)]


class Request(BaseModel):
    """A body: immutable, and a field it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ReasonRequest(Request):
    """Why it is done; kept in the audit trail."""

    reason: Reason


class Problem(BaseModel):
    """An error (RFC 9457, application/problem+json)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    request_id: str
    """As in the answer's X-Request-Id; what to quote when asking somebody who can read the hub's log."""
