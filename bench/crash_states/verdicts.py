"""What became of recoveries, so that one that can only go the same way again is not lived through again.

A recovery is decided by the names on the disk, by what was promised and by the content of the files that it looks at:
nothing else in its world differs from one to the next. So the first file that it looks at is the same for all that
begin alike, the second one depends on nothing but the first, and so on: a tree, with a verdict at each end. Two disks
that differ only in what no recovery ever reads (half a record under the name it was to be renamed from, mostly) come
to the same end of it.

What is remembered is looked at: every SAMPLE_EVERY-th time the recovery is lived through all the same, and has to come
to the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from bench.crash_states.recording import Look
from simulator.core.power import Left

SAMPLE_EVERY: Final = 64


class UnequalError(AssertionError):
    """Something that decides over a recovery is not known here."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was broken, what was looked at, in that order, and how often the disk was used."""

    broken: tuple[str, ...]
    looks: tuple[Look, ...]
    operations: int


@dataclass(slots=True)
class _Fork:
    """Whoever came here looks at this next; what is seen -> what comes then."""

    look: Look
    then: "dict[object, _Fork | Verdict]" = field(default_factory=dict)


class Verdicts:
    """Those of one scenario: so many recoveries were `lived` through, so many `recalled`."""

    def __init__(self) -> None:
        self.lived = 0
        self.recalled = 0
        self._begins: dict[object, _Fork | Verdict] = {}

    def get(self, promised: bytes, left: Mapping[str, Left], live: Callable[[], Verdict]) -> Verdict:
        """The verdict on the recovery from `left`; `live` lives through it. Raises UnequalError."""
        verdict = self._known(promised, left)
        if verdict is None:
            self.lived += 1
            verdict = live()
            self._learn(promised, left, verdict)
            return verdict
        self.recalled += 1
        if not self.recalled % SAMPLE_EVERY and live() != verdict:
            raise UnequalError(f"two recoveries that look at the same go different ways: {verdict}")
        return verdict

    def _learn(self, promised: bytes, left: Mapping[str, Left], verdict: Verdict) -> None:
        """This is what became of the recovery from `left`."""
        branches, key = self._begins, _beginning(promised, left)
        for look in verdict.looks:
            fork = branches.setdefault(key, _Fork(look))
            if not isinstance(fork, _Fork) or fork.look != look:
                raise UnequalError(f"two recoveries have seen the same, and only one goes on with a {look}")
            branches, key = fork.then, look.sees(left)
        branches[key] = verdict

    def _known(self, promised: bytes, left: Mapping[str, Left]) -> Verdict | None:
        now = self._begins.get(_beginning(promised, left))
        while isinstance(now, _Fork):
            now = now.then.get(now.look.sees(left))
        return now


def _beginning(promised: bytes, left: Mapping[str, Left]) -> object:
    return promised, tuple(sorted(left))
