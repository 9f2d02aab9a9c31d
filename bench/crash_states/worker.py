"""A share of the exploration, as a task for another process: names in, plain findings out."""

import gc
import logging
from collections import Counter
from dataclasses import dataclass, field, replace

from bench.crash_states.bugs import BUGS
from bench.crash_states.explore import begin, explore
from bench.crash_states.scenarios import SCENARIOS


@dataclass(frozen=True, slots=True)
class Task:
    """Explore share number `share[0]` of `share[1]` of a scenario; with a bug, only until it is found."""

    scenario: str
    share: tuple[int, int] = (0, 1)
    nested: int = 1
    bug: str = ""


@dataclass(slots=True)
class Findings:
    """Distinct states by their digests, those of cuts inside recoveries apart; each violation says where it was met."""

    task: Task
    states: set[bytes] = field(default_factory=set)
    nested: set[bytes] = field(default_factory=set)
    per_operation: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


def prepare() -> None:
    """Once in each process: what was loaded by now is no garbage, and thousands of devices need not log."""
    logging.disable(logging.CRITICAL)
    gc.collect()
    gc.freeze()


def work(task: Task) -> Findings:
    """Do it."""
    scenario = next(one for one in SCENARIOS if one.name == task.scenario)
    start, findings = begin(scenario), Findings(task)
    if not task.bug:
        for recovery in explore(scenario, start, task.share, task.nested):
            findings.violations += recovery.broken
            if recovery.nested:
                findings.nested.add(recovery.digest)
            elif recovery.operation:
                findings.states.add(recovery.digest)
                findings.per_operation[recovery.operation] += 1
        return findings
    bug = next(one for one in BUGS if one.name == task.bug)
    with bug.seeded():
        for recovery in explore(scenario, replace(start, disk=bug.disk), nested=0):
            if recovery.broken:
                findings.violations = recovery.broken
                break
    return findings
