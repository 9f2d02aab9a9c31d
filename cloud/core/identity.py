"""Who may do what: roles of API keys, and when a claim token turns into an identity.

Secrets are compared and kept as SHA-256 digests only: they are 256 random bits, so a slow hash would add nothing.
"""

import hashlib
import hmac
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

KEY_PREFIX: Final = "flk_"


class Role(StrEnum):
    """What an API key may do. The publisher signs and sees; it does not operate."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    PUBLISHER = "publisher"
    ADMIN = "admin"


class Scope(StrEnum):
    """What a route asks for."""

    VIEW = "view"
    OPERATE = "operate"
    PUBLISH = "publish"
    ADMINISTER = "administer"


GRANTS: Final[dict[Role, frozenset[Scope]]] = {
    Role.VIEWER: frozenset({Scope.VIEW}),
    Role.OPERATOR: frozenset({Scope.VIEW, Scope.OPERATE}),
    Role.PUBLISHER: frozenset({Scope.VIEW, Scope.PUBLISH}),
    Role.ADMIN: frozenset(Scope),
}


def allowed(role: Role, scope: Scope) -> bool:
    """May a key of `role` use a route of `scope`?"""
    return scope in GRANTS[role]


def api_key(secret: str) -> str:
    """The key that a person holds: a prefix that scanners recognise, and the secret."""
    return KEY_PREFIX + secret


def digest(secret: str) -> str:
    """SHA-256 (hex) of a key or token: the only form in which the hub keeps it."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim token as the hub knows it."""

    device: str
    expires_ns: int
    used_with: str | None
    """The verifier that it was used with, if it was."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The device has this identity now; `first` is false when the same request was repeated."""

    device: str
    first: bool


@dataclass(frozen=True, slots=True)
class Denied:
    """No identity, because of `reason`."""

    reason: str


def enrol(claim: Claim | None, verifier: str, now_ns: int) -> Enrolled | Denied:
    """Decide on an enrolment: a token works once; repeating the same request repeats the answer, even after expiry."""
    if claim is None:
        return Denied("unknown claim token: ask the operator for a new claim file")
    if claim.used_with is not None:
        if hmac.compare_digest(claim.used_with, verifier):
            return Enrolled(claim.device, first=False)
        return Denied("claim token was already used by another device: ask the operator for a new claim file")
    if now_ns >= claim.expires_ns:
        return Denied("claim token has expired: ask the operator for a new claim file")
    return Enrolled(claim.device, first=True)
