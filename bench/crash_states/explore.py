"""One scenario, explored: record it, enumerate what cuts may leave, recover from that, and cut the recovery again."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from math import prod

from bench.crash_states.cloud import Cloud, Promises
from bench.crash_states.life import Life
from bench.crash_states.promises import PromiseKeeper
from bench.crash_states.recording import Look, Moment, RecordingDisk
from bench.crash_states.scenarios import Scenario, Stage
from bench.crash_states.verdicts import Verdict, Verdicts
from simulator.core.power import MAX_FREE_CHANGES, Left, Unsettled, leavings, one_outcome, outcomes
from simulator.core.rng import Rng
from wire.codec import encode

MAX_LIVES = 5
"""A model that takes the device down is given up after two starts with it; one more start ends that."""
ORDERS = 6
"""A scenario is recorded so often, each time with another order of what happens at once."""
RECOVERING, RECOVERING_AGAIN = 2 * MAX_LIVES, 3 * MAX_LIVES
"""Seeds of the secrets of those who come back: other ones than all before them had."""
MAX_OUTCOMES = 256
"""Of a moment with more outcomes (only the seeded bugs have such), as many are drawn at random."""

Files = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class State:
    """What a cut left, and what had been promised by then."""

    digest: bytes
    left: Mapping[str, Left]
    moment: Moment

    def files(self) -> dict[str, bytes]:
        """The disk."""
        return {path: one.data for path, one in self.left.items()}

    def begins(self, start: "Start") -> "Start":
        """That start, from here."""
        return replace(start, files=self.files(), promises=self.moment.promises)


@dataclass(slots=True)
class Course:
    """How lives went: what was done to the disk, what was promised, and what was broken."""

    moments: list[Moment]
    promises: Promises
    broken: list[str]
    looks: tuple[Look, ...] = ()
    """What was seen of the files that were there when it began."""
    operations: int = 0

    def verdict(self) -> Verdict:
        """What is worth remembering."""
        return Verdict(tuple(self.broken), self.looks, self.operations)


@dataclass(frozen=True, slots=True)
class Recovery:
    """From one state: its digest, the operation after which the power went, and what was broken, saying where."""

    digest: bytes
    operation: str
    broken: list[str]
    nested: bool = False


DiskKind = Callable[[Files, Callable[[], Promises]], RecordingDisk]


@dataclass(frozen=True, slots=True)
class Start:
    """With what a stage begins, and on what kind of disk it is lived through."""

    files: Files = field(default_factory=dict)
    promises: Promises = field(default_factory=Promises)
    seed: int = 0
    order: int = 0
    disk: DiskKind = RecordingDisk
    records: bool = True
    """Is every moment kept, or only the last?"""
    recovers: bool = False
    """Then the cloud is there at once, and nothing else happens between two operations on the disk."""


def live_through(stage: Stage, start: Start) -> Course:
    """Start the device until it is at rest; again, as often as its model takes it down."""
    faults = stage.far.faults
    faults = replace(faults, away_s=0.0) if start.recovers else faults
    cloud = Cloud(replace(stage.far, faults=faults), start.promises)
    judge = PromiseKeeper(stage.rules, cloud)
    course = Course([], start.promises, judge.broken)
    files, looks = start.files, dict[Look, None]()
    for number in range(MAX_LIVES):
        disk = start.disk(files, lambda: cloud.promises)
        disk.cut_after, disk.takes_turns, disk.records = stage.cut_after, not start.recovers, start.records
        died = Life(disk, cloud, stage.hazards, judge, start.seed + number, start.order, stage.outbox_bytes).run()
        disk.end()
        course.moments += disk.moments
        course.operations += disk.operations
        looks = looks or disk.looks
        files = strictest(disk.unsettled())
        if not died or stage.cut_after:
            break
        looks |= dict.fromkeys(Look(path, content=True) for path in sorted(start.files))  # the next one begins with all
    else:
        judge.broken.append(f"still goes down after {MAX_LIVES} starts")
    course.promises, course.looks = cloud.promises, tuple(looks)
    course.broken += cloud.broken
    return course


def strictest(disk: Unsettled) -> dict[str, bytes]:
    """Only what is durable."""
    return {path: leavings(disk.files[number])[0].data for path, number in disk.names.items()}


def begin(scenario: Scenario) -> Start:
    """The disk and the promises with which the last stage begins."""
    start = Start()
    for stage in scenario.before:
        course = live_through(stage, start)
        if course.broken and not stage.cut_after:
            raise AssertionError(f"{scenario.name}: the way there is broken: {course.broken}")
        start = Start(strictest(course.moments[-1].disk), course.promises)
    return replace(start, files=scenario.damage(start.files), seed=MAX_LIVES)


def crash_states(moments: list[Moment]) -> dict[bytes, State]:
    """Every distinct disk that a cut at one of the moments may leave, with the most that was promised by then."""
    found = {}
    for moment in moments:
        for left in _possible(moment.disk):
            digest = _digest(left)
            found[digest] = State(digest, left, moment)
    return found


def record(scenario: Scenario, start: Start, orders: int = ORDERS) -> tuple[list[State], list[str]]:
    """Live through the scenario without a cut: (every distinct state that a cut might have left, what was broken).

    In the order of digests: any share of them is a mixture, and a bug shows soon.
    """
    found: dict[bytes, State] = {}
    broken = []
    for order in range(orders):
        course = live_through(scenario.last, replace(start, order=order))
        broken += [f"{scenario.name}, never cut: {one}" for one in course.broken]
        found = crash_states(course.moments) | found
    return [found[digest] for digest in sorted(found)], broken


def recover(scenario: Scenario, state: State, start: Start, verdicts: Verdicts, *, again: bool) -> Iterator[Recovery]:
    """Start on what is left; with `again`, and unless the way that goes is known, also on what a cut leaves inside."""
    where = f"{scenario.name}, cut {_place(state.moment)}"
    start = replace(start, seed=RECOVERING, recovers=True, records=again)
    broken, moments = _recovered(scenario, state, start, verdicts)
    yield Recovery(state.digest, state.moment.operation, [f"{where}: {one}" for one in broken])
    if again and moments:
        rng = Rng(int.from_bytes(state.digest[:6]), "nested")
        moment = moments[rng.below(len(moments))]
        left = one_outcome(moment.disk, rng)
        inside = State(_digest(left), left, moment)
        broken, _ = _recovered(scenario, inside, replace(start, seed=RECOVERING_AGAIN, records=False), verdicts)
        place = f"{where}, again {_place(moment)}"
        yield Recovery(inside.digest, moment.operation, [f"{place}: {one}" for one in broken], nested=True)


def _recovered(
    scenario: Scenario, state: State, start: Start, verdicts: Verdicts
) -> tuple[Sequence[str], Sequence[Moment]]:
    """(what is broken by a recovery from this state, its moments; none if it is known how that goes)."""
    courses = []

    def live() -> Verdict:
        courses.append(live_through(scenario.last, state.begins(start)))
        return courses[-1].verdict()

    verdict = verdicts.get(_alike(state, start), state.left, live)
    return verdict.broken, courses[0].moments if courses else ()


def _alike(state: State, start: Start) -> bytes:
    """What recoveries have in common that depend on nothing more than what they look at: see `verdicts`."""
    return encode((start.seed, state.moment.promises))


def _possible(disk: Unsettled) -> Iterator[dict[str, Left]]:
    files = {*disk.names.values(), *(change.file for change in disk.changes if change.file is not None)}
    count = 2 ** min(len(disk.changes), MAX_FREE_CHANGES) * prod(len(leavings(disk.files[number])) for number in files)
    if count <= MAX_OUTCOMES * 4:
        return outcomes(disk)
    rng = Rng(count)
    return (one_outcome(disk, rng) for _ in range(MAX_OUTCOMES))


def _digest(left: Mapping[str, Left]) -> bytes:
    digest = blake2b(digest_size=16)
    for path in sorted(left):
        digest.update(path.encode() + b"\0" + left[path].digest)
    return digest.digest()


def _place(moment: Moment) -> str:
    folder, slash, name = moment.path.rpartition("/")
    return f"after {moment.operation} {folder}{slash}{name[:12]}".rstrip()
