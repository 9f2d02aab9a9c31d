"""What the publisher needs of the world. Matched by shape."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from cloud.publisher.request import SigningRequest


class HubUnreachableError(Exception):
    """The hub did not answer; trying again later is all there is to do."""


class HubRefusalError(Exception):
    """The hub answered, and did not take what it was sent; the message is its reason."""


class ShelfError(Exception):
    """What was signed cannot be read or kept now: no room, no permission."""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A document as the hub shows it."""

    version: int
    sha256: str


class HubTrust(msgspec.Struct, frozen=True, kw_only=True):
    """The hub's repository: its newest documents by role."""

    roles: dict[str, Shown]


class Hub(Protocol):
    """The hub's signing desk. Every call raises HubUnreachableError or HubRefusalError."""

    def pending(self) -> Sequence[SigningRequest]:
        """Versions that wait, oldest first."""

    def trust(self) -> HubTrust:
        """What it shows to devices."""

    def file(self, name: str) -> bytes | None:
        """A file of its repository, if it has it."""

    def sign(self, request: str, metadata: Mapping[str, bytes]) -> None:
        """Hand in the bin that lists the release. Repeating it is harmless."""

    def deliver(self, metadata: Mapping[str, bytes], *, restored: bool = False) -> None:
        """Hand in documents that were only signed again; with `restored` all that the hub has lost. May be repeated."""

    def refuse(self, request: str, reason: str) -> None:
        """Say no, for good. Repeating it is harmless."""


class Shelf(Protocol):
    """Keeps what was signed, for ever: the truth about it, and the memory behind "the counter never falls".

    Every call raises ShelfError.
    """

    def read(self, role: str) -> bytes | None:
        """The newest document of a role."""

    def write(self, role: str, document: bytes) -> None:
        """Keep it durably, before it leaves."""
