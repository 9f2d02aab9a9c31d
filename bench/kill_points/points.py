"""Which calls are killed at, and which are denied: all of them, or as many as asked for, evenly spread."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

KILL: Final = "signal=SIGKILL"
ERRORS: Final[Mapping[str, tuple[str, ...]]] = {
    "openat": ("EMFILE", "EROFS", "ENOSPC", "EIO"),
    "pwrite64": ("ENOSPC", "EIO"),
    "write": ("ENOSPC", "EIO"),
    "fsync": ("EIO", "ENOSPC"),
    "rename": ("EIO", "ENOSPC", "EROFS"),
    "unlink": ("EIO", "EROFS"),
    "fallocate": ("ENOSPC", "EIO"),
    "ftruncate": ("EIO",),
}
"""What a file system may answer to each call."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Point:
    """Number `when` of the calls of this kind, counted for each thread, in one course."""

    course: str
    call: str
    when: int
    action: str

    @property
    def rule(self) -> str:
        """As strace wants it."""
        return f"{self.action}:when={self.when}"

    @property
    def kills(self) -> bool:
        """Or does it deny?"""
        return self.action == KILL

    def __str__(self) -> str:
        """For people."""
        return f"{self.course}: {self.action.partition('=')[2]} at {self.call} {self.when}"


def kill_points(course: str, counts: Mapping[str, int]) -> list[Point]:
    """One for every call."""
    return [Point(course, call, when, KILL) for call in sorted(counts) for when in range(1, counts[call] + 1)]


def error_points(course: str, counts: Mapping[str, int]) -> list[Point]:
    """One for every call and error that it may end with."""
    return [
        Point(course, call, when, f"error={error}")
        for call in sorted(counts)
        for when in range(1, counts[call] + 1)
        for error in ERRORS.get(call, ())
    ]


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many of them, evenly spread."""
    if len(items) <= most:
        return list(items)
    return [items[number * len(items) // most] for number in range(most)]
