"""Who may publish and receive what on the broker: a few patterns per kind of login, and how a pattern covers a topic.

Pattern levels: `{client}` is the client id, `*` one concrete level, `+` one level or `+`, `#` everything below. A
filter that a client subscribes to must be covered as a whole, so a wildcard never reaches beyond its pattern.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

CLIENT: Final = "{client}"


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
    levels = topic.split("/")
    return any(_cover(_levels(pattern), levels, client) for pattern in patterns)


def covers(pattern: str, topic: str) -> bool:
    """Does `pattern` cover every topic that `topic` (maybe a filter) can stand for?"""
    return _cover(_levels(pattern), topic.split("/"), CLIENT)


@lru_cache(maxsize=256)
def _levels(pattern: str) -> tuple[str, ...]:
    return tuple(pattern.split("/"))


def _cover(wanted: Sequence[str], levels: Sequence[str], client: str) -> bool:
    """A pattern for everything below a topic covers the topic, too."""
    if len(wanted) != len(levels) and wanted[-1] != "#":
        return False
    for want, level in zip(wanted, levels, strict=False):
        if want == "#":
            return True
        if want == "+":
            if level == "#":
                return False
        elif want == "*":
            if level in ("+", "#"):
                return False
        elif level != (client if want == CLIENT else want):
            return False
    return len(wanted) == len(levels) or len(wanted) == len(levels) + 1
