"""What the publisher needs of the world. Matched by shape."""

from collections.abc import Sequence
from typing import Protocol

from cloud.publisher.core import Signed
from cloud.publisher.request import SigningRequest


class HubUnreachableError(Exception):
    """The hub did not answer; trying again later is all there is to do."""


class HubRefusalError(Exception):
    """The hub answered, and did not take what it was sent; the message is its reason."""


class Hub(Protocol):
    """The hub's signing desk. Every call raises HubUnreachableError or HubRefusalError."""

    def pending(self) -> Sequence[SigningRequest]:
        """Versions that wait, oldest first."""

    def sign(self, request: str, envelope: bytes) -> None:
        """Hand in the DSSE envelope. Repeating it is harmless."""

    def refuse(self, request: str, reason: str) -> None:
        """Say no, for good. Repeating it is harmless."""


class Ledger(Protocol):
    """What was signed, kept for ever: the memory behind "the counter never falls"."""

    def last(self, model: str) -> Signed | None:
        """The newest signature for `model`."""

    def record(self, model: str, signed: Signed) -> None:
        """Remember durably, before the signature leaves."""
