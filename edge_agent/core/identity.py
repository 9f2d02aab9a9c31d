"""What a device logs in with."""

import hashlib

from wire.codec import Document
from wire.identity import ClaimFile


class Identity(Document, frozen=True, kw_only=True):
    """A login. Either `password`, or `key`, `csr` and later `certificate` (all PEM)."""

    username: str
    claim: str
    """SHA-256 (hex) of the token of the claim that it belongs to: another claim means another identity."""
    password: str = ""
    key: str = ""
    csr: str = ""
    certificate: str = ""
    enrolled: bool = False
    """The hub has granted it."""


def claim_digest(claim: ClaimFile) -> str:
    """What an identity keeps of its claim."""
    return hashlib.sha256(claim.token.encode()).hexdigest()
