"""One device in a rollout, and what it adds to the counts of its wave.

The counts of a wave are the sum of what its members add. So they may be kept up to date by taking away what a member
added before a change and adding what it adds after it; counting from scratch must give the same.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from operator import add

from cloud.core.gates.catalogue import COMMIT_RATE, GOLDEN_AGREEMENT
from cloud.core.gates.evidence import NONE, Sample, observe, observe_control
from cloud.core.gates.judge import Rule, Tally
from wire.messages import Outcome


class Status(StrEnum):
    """How far a member is. The strings are persisted and never change."""

    WAITING = "waiting"
    IN_FLIGHT = "in_flight"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Member:
    """The facts about one device in the rollout.

    `due_ns`: waiting, not to be told before; in flight, overdue from then on. By the catalogue's names: `now`, what it
    measured of the new version; `before`, of the one it ran; `control`, while it waited, of what it ran then.
    """

    device: str
    wave: int
    place: int = 0
    group: str = ""
    status: Status = Status.WAITING
    due_ns: int = 0
    attempt: int = 1
    outcome: Outcome | None = None
    acknowledged: bool = False
    golden_matched: int = 0
    golden_total: int = 0
    now: Mapping[str, float] = field(default_factory=dict)
    before: Mapping[str, float] = field(default_factory=dict)
    control: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Counts:
    """What is known of a wave. `failed` includes the `acknowledged` ones, `committed` the `accepted` ones: of both a
    person has seen what there was to see, and gates look at them no more. Whoever was cancelled is in none.

    `samples` and `controls` have one entry for each rule of the plan's gates.
    """

    planned: int = 0
    waiting: int = 0
    in_flight: int = 0
    committed: int = 0
    failed: int = 0
    acknowledged: int = 0
    accepted: int = 0
    samples: tuple[Sample, ...] = ()
    controls: tuple[Sample, ...] = ()

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.planned + other.planned,
            self.waiting + other.waiting,
            self.in_flight + other.in_flight,
            self.committed + other.committed,
            self.failed + other.failed,
            self.acknowledged + other.acknowledged,
            self.accepted + other.accepted,
            _both(self.samples, other.samples),
            _both(self.controls, other.controls),
        )

    def __mul__(self, times: int) -> "Counts":
        numbers = {name: times * getattr(self, name) for name in NUMBERS}
        samples = tuple(one * times for one in self.samples)
        return Counts(**numbers, samples=samples, controls=tuple(one * times for one in self.controls))

    def __sub__(self, other: "Counts") -> "Counts":
        return self + other * -1

    def tally(self, rule: int, control: Sample = NONE) -> Tally:
        """The wave as the rule with this number sees it."""
        return Tally(
            planned=self.planned - self.acknowledged,
            ended=self.committed + self.failed - self.acknowledged,
            committed=self.committed,
            accepted=self.accepted,
            sample=self.samples[rule] if self.samples else NONE,
            control=control,
        )


NUMBERS = tuple(one.name for one in fields(Counts) if one.name not in ("samples", "controls"))
"""The plain counts."""


def counts_of(member: Member, rules: Sequence[Rule]) -> Counts:
    """What one member adds to the counts of its wave."""
    if member.outcome is Outcome.CANCELLED:
        return empty(rules)
    succeeded = member.outcome is Outcome.SUCCEEDED
    now = _measured(member)
    waiting = member.status is Status.WAITING
    return Counts(
        planned=1,
        waiting=int(waiting),
        in_flight=int(member.status is Status.IN_FLIGHT),
        committed=int(succeeded),
        failed=int(member.status is Status.ENDED and not succeeded),
        acknowledged=int(member.acknowledged and member.status is Status.ENDED and not succeeded),
        accepted=int(member.acknowledged and succeeded),
        samples=tuple(observe(rule.comparison, now, member.before) for rule in rules),
        controls=tuple(observe_control(rule.comparison, member.control) for rule in rules),
    )


def count(members: Iterable[Member], rules: Sequence[Rule]) -> dict[int, Counts]:
    """The counts of every wave that has members. Those that are alike are looked at once."""
    alike: Counter[tuple[Hashable, ...]] = Counter()
    example: dict[tuple[Hashable, ...], Member] = {}
    for member in members:
        key = _key(member)
        alike[key] += 1
        example.setdefault(key, member)
    totals: dict[int, Counts] = {}
    for key, number in alike.items():
        member = example[key]
        totals[member.wave] = totals.get(member.wave, Counts()) + counts_of(member, rules) * number
    return totals


def empty(rules: Sequence[Rule]) -> Counts:
    """The counts of a wave without members."""
    return Counts(samples=(NONE,) * len(rules), controls=(NONE,) * len(rules))


def _key(member: Member) -> tuple[Hashable, ...]:
    """All that counts depend on."""
    figures = (tuple(kind.items()) for kind in (member.now, member.before, member.control))
    golden = (member.golden_matched, member.golden_total)
    return (member.wave, member.status, member.outcome, member.acknowledged, *golden, *figures)


def _measured(member: Member) -> dict[str, float]:
    """What gates may see: nothing of what a person has acknowledged."""
    if member.status is not Status.ENDED or member.acknowledged:
        return {}
    golden = {GOLDEN_AGREEMENT: member.golden_matched / member.golden_total} if member.golden_total else {}
    return {**member.now, **golden, COMMIT_RATE: float(member.outcome is Outcome.SUCCEEDED)}


def _both(left: tuple[Sample, ...], right: tuple[Sample, ...]) -> tuple[Sample, ...]:
    """Rule by rule; counts that have none yet add nothing."""
    return tuple(map(add, left, right)) if left and right else left or right
