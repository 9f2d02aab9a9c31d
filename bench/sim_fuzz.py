"""Random lives of small fleets under random faults, every cut point of a device's writes, and bugs seeded on purpose.

Each life has its promises watched from the first moment and has to come to rest once its faults are over. Each seeded
bug has to be found; how many lives that took is told.
"""

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Annotated, Any

import msgspec

from bench.result import Outcome, finish
from bench.sim_bugs import BUGS
from simulator.fuzz.campaign import Tally, endings, play
from simulator.fuzz.cuts import explore, quiet_life
from simulator.fuzz.progress import bar
from wire.errors import MalformedError

LEAST_FAULTS = 3
"""That did harm, in every life."""
SHORT_SEEDS, SHORT_CUT_SEEDS, SHORT_EVERY = 10, 3, 60


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked of this proof."""

    seeds: Annotated[int, msgspec.Meta(description="random lives", ge=0)] = 2_000
    first: Annotated[int, msgspec.Meta(description="the first seed", ge=0)] = 1
    cut_seeds: Annotated[int, msgspec.Meta(description="crash seeds for each cut point", ge=0)] = 20
    bug_seeds: Annotated[int, msgspec.Meta(description="lives that may be spent on each seeded bug", ge=0)] = 200
    bug: Annotated[str, msgspec.Meta(description="only seeded bugs with this in their name")] = ""
    workers: Annotated[int, msgspec.Meta(description="processes; 0: one for each core", ge=0)] = 0
    short: Annotated[bool, msgspec.Meta(description="a few lives and cut points, no bugs, for tests")] = False
    json: Annotated[bool, msgspec.Meta(description="print nothing but the JSON object")] = False


def run(settings: Settings) -> int:
    """1 when a promise was broken, a life had fewer than three faults, or a seeded bug stayed hidden.

    Raises:
        MalformedError: no seeded bug has that in its name.
    """
    workers, chosen = settings.workers or os.cpu_count() or 1, _chosen(settings)
    lives = _lives(settings, workers)
    cuts = _cuts(settings, workers) if settings.cut_seeds else {}
    bugs = _bugs(settings, chosen, workers) if settings.bug_seeds and not settings.short else {}
    whole = lives["violations"] == cuts.get("cut_violations", 0) == 0 and lives["converged"] == lives["seeds"]
    enough = not lives["seeds"] or lives["fewest_faults"] >= LEAST_FAULTS
    figures = {**lives, **cuts, "bugs": len(bugs), "bugs_found": sum(map(bool, bugs.values())), "seeds_needed": bugs}
    return finish(Outcome(figures, whole and enough and all(bugs.values())), as_json=settings.json)


def _lives(settings: Settings, workers: int) -> dict[str, Any]:
    count = min(settings.seeds, SHORT_SEEDS) if settings.short else settings.seeds
    began, tally = time.perf_counter(), Tally()
    with bar("lives", count) as advance:
        for ending in endings(range(settings.first, settings.first + count), 1 if settings.short else workers):
            tally.add(ending)
            advance()
    return {
        "seeds": tally.seeds,
        "violations": len(tally.failed),
        "converged": tally.converged,
        "faults_fired": sum(tally.fired.values()),
        "fewest_faults": tally.fewest,
        "by_kind": dict(sorted(tally.fired.items())),
        "failed": sorted(f"{one.seed}: {one.problem}" for one in tally.failed)[:10],
        "seconds": round(time.perf_counter() - began, 1),
    }


def _cuts(settings: Settings, workers: int) -> dict[str, Any]:
    began = time.perf_counter()
    seeds, every = (SHORT_CUT_SEEDS, SHORT_EVERY) if settings.short else (settings.cut_seeds, 1)
    with bar("lives after a cut") as advance:
        explored = explore(quiet_life(settings.first), seeds, workers, every=every, on_state=advance)
    return {
        "cut_points": explored.points,
        "cut_runs": explored.runs,
        "cut_states": explored.states,
        "cut_violations": len(explored.problems),
        "cut_problems": explored.problems[:10],
        "cut_seconds": round(time.perf_counter() - began, 1),
    }


def _chosen(settings: Settings) -> list[int]:
    """Numbers of the seeded bugs. Raises MalformedError."""
    chosen = [number for number, bug in enumerate(BUGS) if settings.bug in bug.name]
    if not chosen:
        raise MalformedError(f"--bug: no seeded bug has {settings.bug!r} in its name; docs/fuzzing.md lists them")
    return chosen


def _bugs(settings: Settings, chosen: list[int], workers: int) -> dict[str, int]:
    """Bug -> lives that it took to find it; 0: it was not found."""
    found = dict[str, int]()
    with (
        bar("seeded bugs", len(chosen)) as advance,
        ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool,
    ):
        needed = pool.map(partial(_needed, settings), chosen)
        for number, lives in zip(chosen, needed, strict=True):
            found[BUGS[number].name] = lives
            advance()
    return found


def _needed(settings: Settings, bug: int) -> int:
    for number in range(settings.bug_seeds):
        if play(settings.first + number, BUGS[bug].seeded).problem:
            return number + 1
    return 0
