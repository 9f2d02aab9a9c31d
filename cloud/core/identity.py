"""Who may do what: roles of API keys, when a claim token turns into an identity, and how long that one lasts.

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


class KeyState(StrEnum):
    """What became of an API key."""

    USABLE = "usable"
    EXPIRED = "expired"
    REVOKED = "revoked"


def key_state(expires_ns: int | None, revoked_ns: int | None, now_ns: int) -> KeyState:
    """Revoked for good, expired at its time, or usable."""
    if revoked_ns is not None:
        return KeyState.REVOKED
    return KeyState.EXPIRED if expires_ns is not None and now_ns >= expires_ns else KeyState.USABLE


def digest(secret: str) -> str:
    """SHA-256 (hex) of a key or token: the only form in which the hub keeps it."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim token as the hub knows it."""

    device: str
    expires_ns: int
    used_with: str | None
    """The digest of the secret's public side that it was used with, if it was."""
    replaces: bool = False
    """May it give the name of an enrolled device to new hardware?"""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The device has this identity now; `first` is false when the same request was repeated."""

    device: str
    first: bool


@dataclass(frozen=True, slots=True)
class Denied:
    """No identity, because of `reason`."""

    reason: str


def enrol(claim: Claim | None, secret: str, holder: str | None, now_ns: int) -> Enrolled | Denied:
    """Decide on an enrolment: a token works once; repeating the same request repeats the answer, even after expiry.

    `secret` is the digest of the secret's public side; `holder` that of the device which has the name now, if one has.
    A name in use changes hands only by a claim that says so.
    """
    if claim is None:
        return Denied("unknown claim token: ask the operator for a new claim file")
    if claim.used_with is not None:
        if hmac.compare_digest(claim.used_with, secret):
            return Enrolled(claim.device, first=False)
        return Denied("claim token was already used by another device: ask the operator for a new claim file")
    if now_ns >= claim.expires_ns:
        return Denied("claim token has expired: ask the operator for a new claim file")
    if holder not in (None, secret) and not claim.replaces:
        return Denied(
            f"{claim.device} is enrolled already: to give its name to new hardware, the operator makes a claim that "
            "replaces it"
        )
    return Enrolled(claim.device, first=True)


MAX_LIVE_CERTIFICATES: Final = 8
"""Most valid certificates of one device: the present one, its successor, and a few whose answers got lost."""
RECOVERY_GRACE_NS: Final = 365 * 24 * 3600 * 1_000_000_000
"""How long after its end a certificate still proves who its holder is."""


def renew(live_count: int) -> Denied | None:
    """Decide on one more certificate for an enrolled device that has `live_count` valid ones."""
    if live_count >= MAX_LIVE_CERTIFICATES:
        return Denied(f"{live_count} certificates are valid already: wait until some of them expire")
    return None


def recover(expires_ns: int, revoked: bool, now_ns: int) -> Denied | None:
    """Decide on a new certificate for who proves to hold the key of this one."""
    if revoked:
        return Denied("this certificate was revoked: ask the operator for a new claim file")
    if now_ns >= expires_ns + RECOVERY_GRACE_NS:
        return Denied("this certificate ended more than a year ago: ask the operator for a new claim file")
    return None
