"""One scenario, explored: record it, enumerate what cuts may leave, recover from that, and cut the recovery again."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from math import prod

from bench.crash_states.cloud import Cloud, Promises
from bench.crash_states.life import Life
from bench.crash_states.promises import PromiseKeeper
from bench.crash_states.recording import Moment, RecordingDisk
from bench.crash_states.scenarios import Scenario, Stage
from simulator.core.power import MAX_FREE_CHANGES, Left, Unsettled, leavings, one_outcome, outcomes
from simulator.core.rng import Rng

MAX_LIVES = 5
"""A model that takes the device down is given up after two starts with it; one more start ends that."""
ORDERS = 3
"""A scenario is recorded so often, each time with another order of what happens at once."""
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


@dataclass(slots=True)
class Course:
    """How lives went: what was done to the disk, what was promised, and what was broken."""

    moments: list[Moment]
    promises: Promises
    broken: list[str]


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
    files = start.files
    for number in range(MAX_LIVES):
        disk = start.disk(files, lambda: cloud.promises)
        disk.cut_after, disk.takes_turns, disk.records = stage.cut_after, not start.recovers, start.records
        died = Life(disk, cloud, stage.hazards, judge, start.seed + number, start.order, stage.outbox_bytes).run()
        disk.end()
        course.moments += disk.moments
        files = strictest(disk.unsettled())
        if not died or stage.cut_after:
            break
    else:
        judge.broken.append(f"still goes down after {MAX_LIVES} starts")
    course.promises = cloud.promises
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


def recover(scenario: Scenario, state: State, start: Start, *, cut_again: bool) -> Iterator[Recovery]:
    """Start on what is left; with `cut_again` also on what a cut somewhere inside that recovery leaves."""
    where = f"{scenario.name}, cut {_place(state.moment)}"
    seed = int.from_bytes(state.digest[:6], "big")
    start = replace(start, files=state.files(), promises=state.moment.promises, seed=seed, recovers=True)
    start = replace(start, records=cut_again)
    course = live_through(scenario.last, start)
    yield Recovery(state.digest, state.moment.operation, [f"{where}: {one}" for one in course.broken])
    if cut_again:
        rng = Rng(seed, "nested")
        moment = course.moments[rng.below(len(course.moments))]
        left = one_outcome(moment.disk, rng)
        again = State(_digest(left), left, moment)
        start = replace(start, files=again.files(), promises=moment.promises, seed=seed + MAX_LIVES)
        broken = live_through(scenario.last, start).broken
        place = f"{where}, again {_place(moment)}"
        yield Recovery(again.digest, moment.operation, [f"{place}: {one}" for one in broken], nested=True)


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
