"""When a hub may take the lead: after nothing was heard of the leader for as long as a lease lasts.

No two clocks are compared. Each hub watches the leader's row and measures, by its own monotonic clock, for how long it
has not changed. A leader counts from before its last sign of life was written, the others from when they saw it, so its
lease is over before theirs is, as long as clocks run at about the same speed. Whatever clocks do, the term decides: it
grows with every change, and a write under an older one does not happen (`cloud.service.leadership`).
"""

from dataclasses import dataclass

NOBODY = ""


@dataclass(frozen=True, slots=True)
class Lead:
    """The row: who leads, since which change, and his last sign of life."""

    holder: str
    term: int
    beat: int


@dataclass(frozen=True, slots=True)
class Watch:
    """A row, and since when (monotonic, ns) it has been seen unchanged."""

    lead: Lead
    since_ns: int


def watch(before: Watch | None, seen: Lead, now_ns: int) -> Watch:
    """Look once more."""
    return before if before is not None and before.lead == seen else Watch(seen, now_ns)


def is_vacant(watched: Watch, lease_ns: int, now_ns: int) -> bool:
    """May the lead be taken? At once if it was given up, else when the leader was silent for a whole lease."""
    return watched.lead.holder == NOBODY or now_ns - watched.since_ns >= lease_ns
