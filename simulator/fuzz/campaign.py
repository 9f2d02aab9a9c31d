"""Many lives over several processes, and what is left of those that failed once every needless step is gone."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from simulator.alarm import quiet_programs
from simulator.fuzz.draw import Life, draw
from simulator.fuzz.play import Ending, Playing
from simulator.fuzz.shrink import shrink
from simulator.processes import pool

CHUNK = 4
"""Seeds that a worker takes at a time."""
REPLAY = "fleetloop sim fuzz --seed {seed} --only {steps}"

Play = Callable[[int], Ending]
Replaced = Callable[[], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Violation:
    """A seed that broke a promise, the steps that it takes, and how to see it again."""

    seed: int
    problem: str
    steps: tuple[str, ...]
    replay: str


@dataclass(slots=True)
class Tally:
    """What a campaign has come to so far. `fewest`: the least number of faults that fired in one life."""

    seeds: int = 0
    converged: int = 0
    fewest: int | None = None
    fired: Counter[str] = field(default_factory=Counter)
    failed: list[Ending] = field(default_factory=list)
    virtual_s: float = 0.0
    events: int = 0

    def add(self, ending: Ending) -> None:
        """One more life."""
        self.seeds += 1
        self.converged += not ending.problem
        fired = sum(ending.fired.values())
        self.fewest = fired if self.fewest is None else min(self.fewest, fired)
        self.fired += ending.fired
        self.virtual_s += ending.virtual_s
        self.events += ending.events
        if ending.problem:
            self.failed.append(ending)


def play(seed: int, replaced: Replaced = contextlib.nullcontext) -> Ending:
    """The life of this seed, with all its faults. What is `replaced` in the programs is so while it is lived, and not
    while a fleet is brought up that other lives begin with, too."""
    with quiet_programs():
        playing = Playing(draw(seed))
        with replaced():
            return playing.play()


def endings(seeds: Sequence[int], workers: int, play: Play = play) -> Iterator[Ending]:
    """How these lives end. `play` must be importable where there are several workers.

    Raises:
        BrokenProcessPool: a worker died.
    """
    if workers <= 1:
        yield from map(play, seeds)
        return
    with pool(workers) as processes:
        yield from processes.map(play, seeds, chunksize=CHUNK)


def explain(seed: int, problem: str, replaced: Replaced) -> Violation:
    """Shrink what happens in the life of `seed`. `replaced` seeds the bug in question, if there is one."""
    life = draw(seed)

    def fails(steps: Iterable[int]) -> bool:
        playing = Playing(life, steps)
        with replaced(), quiet_programs():
            return bool(playing.play().problem)

    steps = shrink(range(life.steps), fails)
    named = tuple(described(life, step) for step in steps)
    return Violation(seed, problem, named, REPLAY.format(seed=seed, steps=",".join(map(str, steps)) or "none"))


def described(life: Life, step: int) -> str:
    """A step for people, with its number."""
    if step < len(life.faults):
        act, fault = life.faults[step]
        return f"{step}: act {act + 1}: {msgspec.json.encode(fault).decode()}"
    action = life.actions[step - len(life.faults)]
    return f"{step}: act 2: at {action.at_s:g} s the operator says {action.what} {action.device}"
