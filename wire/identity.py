"""How a device joins a fleet: the claim file it is given, and the exchange that turns its token into an identity.

The device makes its own secret and sends only what does not give it away: a verifier of its password, or a signing
request for its key. Repeating the same request is harmless; the same token with another secret is refused.
"""

from typing import Annotated, Final, Literal

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
    """Where the device works once it has its identity."""
    enrol: Broker | None = None
    """Where it gets its identity; None = at `broker`, which then has a single listener."""
    credential: Literal["password", "certificate"] = "password"
    """What the device logs in with: a password that it made, or a certificate for a key that it made."""
    topic_root: str
    token: Annotated[str, msgspec.Meta(min_length=20, max_length=200)]
    enrol_username: str
    enrol_password: str
    root: bytes
    """The hub's newest root.json (TUF): where all trust of the device begins. It names the director's keys, too."""


class EnrolRequest(Document, frozen=True, kw_only=True, tag="enrol"):
    """`verifier` = SHA-256 (hex) of the password that the device made for itself (32 random bytes, base64url), or
    `csr` = a PKCS #10 signing request (PEM) by the key that it made. Exactly one of them."""

    schema: int = SCHEMA
    token: Annotated[str, msgspec.Meta(max_length=200)]
    verifier: Sha256 | None = None
    csr: Annotated[str, msgspec.Meta(max_length=8192)] = ""


class RecoverRequest(Document, frozen=True, kw_only=True, tag="recover"):
    """A device whose certificate has expired proves that it still holds the old key.

    `proof` is the old key's ECDSA signature (SHA-256, DER) over `PROOF_CONTEXT` + the bytes of `csr`. Replaying it
    only yields a certificate for a key that the replayer does not have.
    """

    schema: int = SCHEMA
    certificate: Annotated[str, msgspec.Meta(max_length=8192)]
    csr: Annotated[str, msgspec.Meta(max_length=8192)]
    proof: Annotated[bytes, msgspec.Meta(max_length=256)]


PROOF_CONTEXT: Final = b"fleetloop recover v1\n"


class EnrolReply(Document, frozen=True, kw_only=True):
    """`username` is the device's name on the broker and in topics; `certificate` (PEM) answers a `csr`."""

    schema: int = SCHEMA
    ok: bool
    username: str = ""
    certificate: Annotated[str, msgspec.Meta(max_length=8192)] = ""
    reason: str = ""
