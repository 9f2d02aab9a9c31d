"""Crash states of everything the agent writes, recovered from, again crashing inside: no promise may be broken.

A file-system shim behind the agent's `Disk` port records what the real services do; every disk that a power cut may
leave at any of those moments is started on. Bugs are seeded to show that they would be found.
"""

import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from bench.crash_states.bugs import BUGS
from bench.crash_states.scenarios import SCENARIOS
from bench.crash_states.worker import Findings, Task, prepare, work
from bench.result import Outcome, finish
from simulator.processes import pool

LONGEST = "two slots"
"""The scenario that takes longest comes first, so that in the end nobody waits for it."""
ORDERS = 6
"""Each scenario is recorded so often, each time with another order of what happens at once."""
SHORT = 24
"""The short version records each once, and explores one in so many states."""
MIN_STATES = 10_000
MAX_SHOWN = 20


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked of this proof."""

    scenario: Annotated[str, msgspec.Meta(description="only scenarios with this in their name")] = ""
    nested: Annotated[int, msgspec.Meta(description="of so many ways back one is cut again; 0 = none", ge=0)] = 1
    workers: Annotated[int, msgspec.Meta(description="processes; 0 = one for each core", ge=0)] = 0
    short: Annotated[bool, msgspec.Meta(description="a share of all states, for the test suite")] = False
    json: Annotated[bool, msgspec.Meta(description="print nothing but the JSON object")] = False


def run(settings: Settings) -> int:
    """Explore everything; 1 when a promise was broken, a bug was missed or too few states were met."""
    began = time.monotonic()
    found = _explore(_tasks(settings), settings.workers or os.cpu_count() or 1)
    figures = summary(found)
    figures["seconds"] = round(time.monotonic() - began, 1)
    for line in [line for one in found if not one.task.bug for line in one.violations][:MAX_SHOWN]:
        print(line, file=sys.stderr)
    enough = figures["states"] >= MIN_STATES or bool(settings.short or settings.scenario)
    passed = enough and not figures["violations"] and figures["seeded_bugs_found"] == figures["seeded_bugs"]
    return finish(Outcome(figures, passed), as_json=settings.json)


def summary(found: Sequence[Findings]) -> dict[str, Any]:
    """The figures of all tasks together. States are distinct in their scenario: in another one, more may follow."""
    plain = [one for one in found if not one.task.bug]
    bugs = {one.task.bug: one.violations[:1] for one in found if one.task.bug}
    per_scenario: Counter[str] = Counter()
    nested: defaultdict[str, set[bytes]] = defaultdict(set)
    for one in plain:
        per_scenario[one.task.scenario] += len(one.states)
        nested[one.task.scenario] |= one.nested
    return {
        "states": per_scenario.total(),
        "per_operation": dict(sum((one.per_operation for one in plain), Counter())),
        "per_scenario": dict(per_scenario),
        "nested": sum(map(len, nested.values())),
        "lived": sum(one.lived for one in plain),
        "recalled": sum(one.recalled for one in plain),
        "violations": sum(len(one.violations) for one in plain),
        "seeded_bugs": len(bugs),
        "seeded_bugs_found": sum(bool(seen) for seen in bugs.values()),
        "bugs": {name: seen[0] if seen else "not found" for name, seen in bugs.items()},
    }


def _tasks(settings: Settings) -> list[Task]:
    orders, sample = (1, SHORT) if settings.short else (ORDERS, 1)
    chosen = [one.name for one in SCENARIOS if settings.scenario in one.name]
    bugs = [Task(bug.scenario, bug=bug.name) for bug in BUGS if bug.scenario in chosen]
    chosen.sort(key=LONGEST.__ne__)
    return [Task(name, orders, sample, settings.nested) for name in chosen] + bugs


def _explore(tasks: list[Task], workers: int) -> list[Findings]:
    with pool(workers, prepare) as processes:
        return list(processes.map(work, tasks))
