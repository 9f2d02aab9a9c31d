"""Announcing devices."""

from typing import Annotated

from pydantic import Field

from cloud.api.schemas.base import PREFIX, Labels, Name, Request

MAX_CLAIMS = 10_000


class ClaimTerms(Request):
    """What a claim says of a device. What is left out stays as it is for a device that is known."""

    labels: Labels | None = None
    federated: bool | None = None
    """May it take part in federated learning?"""
    replaces: bool = False
    """Give the name of an enrolled device to new hardware; the old hardware is out when the new one enrols."""


class ClaimRequest(ClaimTerms):
    """Announce a device. The answer is its claim file (wire.identity.ClaimFile), shown once."""

    device: Name


class ClaimsRequest(ClaimTerms):
    """Announce many devices: those named, or `count` devices called prefix-0001, prefix-0002... from `first` on."""

    devices: Annotated[list[Name], Field(min_length=1, max_length=MAX_CLAIMS)] | None = None
    prefix: Annotated[str, Field(pattern=PREFIX)] | None = None
    count: Annotated[int, Field(ge=1, le=MAX_CLAIMS)] = 1
    first: Annotated[int, Field(ge=0, lt=10**9)] = 1
