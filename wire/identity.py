"""How a device joins a fleet: the claim file it is given, and the exchange that turns its token into an identity.

The device makes its own secret and sends only a verifier, so the secret never leaves it except to log in. Repeating the
same request is harmless; the same token with another verifier is refused.
"""

from typing import Annotated

import msgspec

from wire.codec import SCHEMA, Document
from wire.release import Name, Sha256


class Broker(Document, frozen=True, kw_only=True):
    """Where the broker listens and which CA signed its certificate (PEM; empty = no TLS, loopback tests only)."""

    host: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    ca_pem: str = ""


class ClaimFile(Document, frozen=True, kw_only=True):
    """Everything a new device needs, as one JSON file. The token works once and expires."""

    schema: int = SCHEMA
    device: Name
    broker: Broker
    topic_root: str
    token: Annotated[str, msgspec.Meta(min_length=20, max_length=200)]
    enrol_username: str
    enrol_password: str
    director_keys: tuple[str, ...]
    """Public ed25519 keys (64 hex digits) that may sign assignments."""
    publisher_keys: tuple[str, ...]
    """Public ed25519 keys (64 hex digits) that may sign releases."""


class EnrolRequest(Document, frozen=True, kw_only=True):
    """`verifier` = SHA-256 (hex) of the password that the device made for itself (32 random bytes, base64url)."""

    schema: int = SCHEMA
    token: Annotated[str, msgspec.Meta(max_length=200)]
    verifier: Sha256


class EnrolReply(Document, frozen=True, kw_only=True):
    """`username` is the device's name on the broker and in topics."""

    schema: int = SCHEMA
    ok: bool
    username: str = ""
    reason: str = ""
