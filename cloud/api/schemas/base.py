"""What all bodies have in common: requests refuse unknown fields, times are integer nanoseconds since 1970."""

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from wire.topics import NAME_PATTERN, NAME_RULE

NAME: Final = f"^{NAME_PATTERN}$"
PREFIX: Final = r"^[a-z0-9][a-z0-9._-]{0,52}$"
LABEL_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$"
IDENTIFIER: Final = r"^[A-Za-z_][A-Za-z0-9_]{0,62}$"
SOURCE: Final = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,55}$"
DIGEST: Final = "^[0-9a-f]{64}$"
_FREELY: Final = "letters, digits, '.', '_', '/' and '-', the first one a letter or a digit, at most"
RULES: Final[Mapping[str, str]] = {
    NAME: f"cannot be a name: {NAME_RULE}",
    PREFIX: f"cannot begin names: a name of at most 53, since numbers follow; {NAME_RULE}",
    LABEL_NAME: f"cannot be a label's name: {_FREELY} 63",
    SOURCE: f"cannot be a source: {_FREELY} 56",
    DIGEST: "cannot be a SHA-256: 64 digits of 0-9 and a-f",
    IDENTIFIER: "cannot be an identifier: letters, digits and '_', at most 63, the first one no digit",
}
"""What is said of a text that does not match."""

Name = Annotated[str, Field(pattern=NAME)]

VersionNumber = Annotated[int, Field(ge=1, lt=2**31)]

Count = Annotated[int, Field(ge=1, lt=2**31)]

Label = Annotated[str, Field(max_length=63)]

LabelName = Annotated[str, Field(pattern=LABEL_NAME)]

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
