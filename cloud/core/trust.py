"""The rules of a repository that grows: what may follow what, what must be signed again, and how files are called."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from wire.ports import SECOND
from wire.trust import Target

ROOT: Final = "root"
TARGETS: Final = "targets"
SNAPSHOT: Final = "snapshot"
TIMESTAMP: Final = "timestamp"

_NAME = re.compile(r"(?:([1-9][0-9]{0,9})\.)?([a-z][a-z0-9-]{0,39})\.json")


def file_of(name: str) -> tuple[str, int | None] | None:
    """Role and version (None = the newest) that a file name stands for, if it stands for any.

    Only the timestamp has a name without a version: it is where every client begins.
    """
    match = _NAME.fullmatch(name)
    if match is None or (match[1] is None) != (match[2] == TIMESTAMP):
        return None
    return match[2], None if match[1] is None else int(match[1])


def next_version(last: int, now_ns: int) -> int:
    """Version of the next snapshot or timestamp: above the last, and never below the clock (seconds since 1970).

    So a hub whose database came back from a backup goes on above everything that it had published before.
    """
    return max(last + 1, now_ns // SECOND)


@dataclass(frozen=True, slots=True)
class Change:
    """What a delivery may change beside signing again: one release `added`, by path; or, after a hub was `restored`
    from a backup, whatever the publisher has signed since, in any number of versions."""

    added: tuple[str, Target] | None = None
    restored: bool = False


def why_not_next(version: int, held: int | None, floor: int, change: Change) -> str:
    """Why a document of `version` cannot come now; empty when it can.

    `held` is the version that stands today; None when none does, because there is none or because the root no longer
    names the keys behind it. Then counting may begin anew, but never at or below `floor`: what a snapshot that devices
    still believe has listed.
    """
    if held is not None:
        follows = version > held if change.restored else version == held + 1
        return "" if follows else f"version {version} does not follow version {held}"
    return "" if version > floor else f"version {version} is not above {floor}, which devices have seen listed"


def why_not_these(before: Mapping[str, Target], after: Mapping[str, Target], change: Change) -> str:
    """Why the targets of a bin may not become `after`; empty when they may. What was listed stays as it was."""
    added = change.added
    wanted = dict(after) if change.restored else {}
    wanted |= dict(before) | ({} if added is None else dict([added]))
    if after == wanted:
        return ""
    differing = sorted(path for path in wanted.keys() | after.keys() if wanted.get(path) != after.get(path))
    path = differing[0]
    if added is not None and path == added[0]:
        return f"target {path} is not the release of the signing request"
    return f"target {path} is {'changed' if path in after else 'missing'}; nothing but the release may differ"
