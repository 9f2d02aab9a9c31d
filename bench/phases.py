"""Where the processor time of a simulated run goes, by sampling: every few milliseconds one look at the call stack.

The innermost module that says whose work it is decides. Libraries belong to whoever called them, but for the
database's.
"""

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

EVERY_S: Final = 0.005
OWNERS: Final = (
    ("sqlalchemy", "database"),
    ("simulator.fakes.store", "database"),
    ("cloud", "hub"),
    ("edge_agent", "agent"),
    ("federated", "agent"),
    ("simulator.core.loop", "loop"),
    ("asyncio", "loop"),
    ("simulator", "network and disk"),
)
"""Modules whose name begins so, and whose work they do."""


@contextmanager
def sampled() -> Iterator[Counter[str]]:
    """Count samples by owner inside; "other" is what no owner asked for."""
    counts: Counter[str] = Counter()

    def look(_: int, frame: FrameType | None) -> None:
        counts[_owner(frame)] += 1

    before = signal.signal(signal.SIGPROF, look)
    signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)
    try:
        yield counts
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)


def shares(counts: Counter[str], seconds: float) -> dict[str, float]:
    """`seconds` divided among the owners as they were seen, the largest first."""
    total = max(1, counts.total())
    return {owner: round(seconds * count / total, 2) for owner, count in counts.most_common()}


def _owner(frame: FrameType | None) -> str:
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        for beginning, owner in OWNERS:
            if name.startswith(beginning):
                return owner
        frame = frame.f_back
    return "other"
