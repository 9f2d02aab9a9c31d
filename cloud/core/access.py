"""Who may publish and receive what on the broker: a few patterns per kind of login, and how a pattern covers a topic.

Pattern levels: `{client}` is the client id, `*` one concrete level, `+` one level or `+`, `#` everything below. A
filter that a client subscribes to must be covered as a whole, so a wildcard never reaches beyond its pattern.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Access:
    """Patterns without the topic root."""

    publish: tuple[str, ...]
    receive: tuple[str, ...]


DEVICE: Final = Access(("up/{client}/#",), ("dn/{client}/#", "blob/*/*"))
ENROLMENT: Final = Access(("enrol/up/{client}",), ("enrol/dn/{client}",))
HUB: Final = Access(("#",), ("#",))
HUB_USER, AGGREGATOR_USER, ENROL_USER, PROBE_USER = "hub", "aggregator", "enrol", "probe"
RESERVED_NAMES: Final = frozenset({HUB_USER, AGGREGATOR_USER, ENROL_USER, PROBE_USER})
"""Logins of the hub itself, of its programs and of the enrolment: no device can have these names."""
AGGREGATOR: Final = Access(
    ("dn/*/fed", "dn/*/want", "blob/*/*"), ("up/+/status", "up/+/fed", "up/+/blob/#", "up/*/blob/*/*")
)


def under(root: str, patterns: tuple[str, ...]) -> tuple[str, ...]:
    """The patterns with the topic root in front."""
    return tuple(f"{root}/{pattern}" for pattern in patterns)


def permitted(patterns: tuple[str, ...], client: str, topic: str) -> bool:
    """Does one of the patterns cover this topic or filter for this client?"""
    return any(covers(pattern.replace("{client}", client), topic) for pattern in patterns)


def covers(pattern: str, topic: str) -> bool:
    """Does `pattern` cover every topic that `topic` (maybe a filter) can stand for?"""
    wanted = pattern.split("/")
    levels = topic.split("/")
    for index, want in enumerate(wanted):
        if want == "#":
            return True
        if index >= len(levels) or not _level(want, levels[index]):
            return False
    return len(wanted) == len(levels)


def _level(want: str, level: str) -> bool:
    if want == "+":
        return level != "#"
    if want == "*":
        return level not in ("+", "#")
    return want == level
