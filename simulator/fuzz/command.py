"""`fleetloop sim fuzz`: plays many random lives, shows how it goes, and for each that fails how to see it again.

With `--only`, the life of one seed with some of its steps: what the report of a failure says to run.
"""

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from simulator.alarm import quiet_programs
from simulator.fuzz.campaign import Tally, Violation, described, endings, explain
from simulator.fuzz.draw import Life, draw
from simulator.fuzz.play import Ending, Playing
from simulator.fuzz.progress import bar
from wire.errors import MalformedError

EXIT_FAILED = 1
MOST_EXPLAINED = 3
"""Failures that are shrunk; of further ones only the problem is told."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to play. `workers`: processes, 0 = one for each core. `only`: steps of the life of seed `first`."""

    seeds: int
    first: int = 1
    workers: int = 0
    only: str = ""
    json: bool = False


def fuzz(order: Order) -> int:
    """0 when every promise was kept, else 1."""
    if order.only:
        return _replay(order)
    began, tally = time.perf_counter(), Tally()
    with bar("lives", order.seeds) as advance:
        for ending in endings(range(order.first, order.first + order.seeds), order.workers or os.cpu_count() or 1):
            tally.add(ending)
            advance()
    tally.failed.sort(key=lambda ending: ending.seed)
    shown = [explain(one.seed, one.problem, contextlib.nullcontext) for one in tally.failed[:MOST_EXPLAINED]]
    print(_as_json(tally, shown) if order.json else _as_text(tally, shown, time.perf_counter() - began))
    return EXIT_FAILED if tally.failed else 0


def _replay(order: Order) -> int:
    life = draw(order.first)
    steps = _steps(order.only, life)
    with quiet_programs():
        ending = Playing(life, steps).play()
    told = [described(life, step) for step in steps]
    if order.json:
        print(msgspec.json.encode({**_figures(ending), "steps": told}).decode())
    else:
        kept = f"every promise was kept ({ending.virtual_s:.0f} s of virtual time)"
        print(*told, ending.problem or kept, sep="\n")
    return EXIT_FAILED if ending.problem else 0


def _figures(ending: Ending) -> dict[str, object]:
    """Of one life."""
    return {
        "seed": ending.seed,
        "violations": int(bool(ending.problem)),
        "converged": int(not ending.problem),
        "faults_fired": dict(sorted(ending.fired.items())),
        "problem": ending.problem,
        "virtual_s": ending.virtual_s,
        "digest": ending.digest,
    }


def _steps(only: str, life: Life) -> list[int]:
    """The steps that are named. Raises MalformedError."""
    words = [] if only == "none" else [word.strip() for word in only.split(",")]
    wrong = next((word for word in words if not (word.isdecimal() and int(word) < life.steps)), None)
    if wrong is not None:
        raise MalformedError(
            f"--only: there is no step {wrong!r}; the life of seed {life.seed} has 0 to {life.steps - 1}, or say none"
        )
    return [int(word) for word in words]


def _as_json(tally: Tally, shown: Sequence[Violation]) -> str:
    figures = {
        "seeds": tally.seeds,
        "violations": len(tally.failed),
        "converged": tally.converged,
        "faults_fired": dict(sorted(tally.fired.items())),
        "fewest_faults": tally.fewest,
        "failed": [{"seed": one.seed, "problem": one.problem} for one in tally.failed],
        "shrunk": shown,
    }
    return msgspec.json.encode(figures).decode()


def _as_text(tally: Tally, shown: Sequence[Violation], wall_s: float) -> str:
    fired = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in sorted(tally.fired.items()))
    lines = [
        f"{tally.seeds} lives, {tally.virtual_s / 3600:.1f} h of virtual time in {wall_s:.0f} s, {tally.events} events",
        f"faults that did harm: {fired}; at least {tally.fewest} in each life",
    ]
    for one in shown:
        lines += [f"seed {one.seed}: {one.problem}", *(f"    {step}" for step in one.steps), f"    again: {one.replay}"]
    lines += [f"seed {one.seed}: {one.problem}" for one in tally.failed[len(shown) :]]
    lines.append(f"{len(tally.failed)} lives broke a promise" if tally.failed else "every promise was kept")
    return "\n".join(lines)
