"""What both ends must agree on about TUF metadata: names, shapes, lives and limits. It knows no TUF library.

A target is a release document: its path names model and version, its hash and length are what an assignment repeats.
The top-level targets role signs nothing itself; it delegates to hash bins (TAP 15), all signed by the publisher.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from wire.ports import SECOND

BINS: Final = 16
BIN_PREFIX: Final = "bin"
"""Roles `bin-0` to `bin-f`: one hexadecimal digit for 16 bins."""
DIRECTOR_FIELD: Final = "x-fleetloop-director"
"""Field of the signed root metadata: list of ed25519 public keys (64 hex digits) that may sign assignments and time."""

DAY_S: Final = 24 * 3600
TIMESTAMP_LIFE_S: Final = DAY_S
SNAPSHOT_LIFE_S: Final = 7 * DAY_S
TARGETS_LIFE_S: Final = 365 * DAY_S
ROOT_LIFE_S: Final = 2 * 365 * DAY_S

MAX_ROOT_BYTES: Final = 64 * 1024
MAX_TIMESTAMP_BYTES: Final = 4 * 1024
MAX_SNAPSHOT_BYTES: Final = 64 * 1024
MAX_TARGETS_BYTES: Final = 2 * 1024 * 1024
MAX_ROOT_ROTATIONS: Final = 32


@dataclass(frozen=True, slots=True)
class Target:
    """What metadata says of a release document: its length, its SHA-256 (hex), and the release's counter."""

    bytes: int
    sha256: str
    counter: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Version of a document and the end of its life (nanoseconds since 1970)."""

    version: int
    expires_ns: int


@dataclass(frozen=True, slots=True)
class RootKeys:
    """Public ed25519 keys (64 hex digits) by role. One signature suffices for every role but root."""

    root: tuple[str, ...]
    threshold: int
    """How many of `root` must sign a root."""
    targets: tuple[str, ...]
    online: tuple[str, ...]
    director: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bin:
    """What a bin says: path -> target."""

    standing: Standing
    targets: Mapping[str, Target]


@dataclass(frozen=True, slots=True)
class Listed:
    """What a snapshot says of one file."""

    version: int
    bytes: int


def half_life_ns(expires_ns: int, life_s: int) -> int:
    """When half of a document's life is over."""
    return expires_ns - life_s * SECOND // 2


def half_over(expires_ns: int, life_s: int, now_ns: int) -> bool:
    """Is half of a document's life over? Then it is signed again."""
    return now_ns > half_life_ns(expires_ns, life_s)


def bin_roles() -> tuple[str, ...]:
    """All bins, in order."""
    return tuple(f"{BIN_PREFIX}-{number:x}" for number in range(BINS))


def bin_of(path: str) -> str:
    """The bin that a target belongs to: the first four bits of the SHA-256 of its path (TAP 15)."""
    return f"{BIN_PREFIX}-{hashlib.sha256(path.encode()).hexdigest()[0]}"


def target_path(model: str, version: int) -> str:
    """Path of the release document in the targets metadata."""
    return f"{model}/{version}.json"
