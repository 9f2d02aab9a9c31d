"""A share of the exploration, as a task for another process: names in, plain findings out."""

import logging
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import lru_cache
from zlib import crc32

from bench.crash_states.bugs import BUGS
from bench.crash_states.explore import Recovery, Start, State, begin, record, recover
from bench.crash_states.scenarios import SCENARIOS, Scenario
from bench.crash_states.verdicts import Verdicts


@dataclass(frozen=True, slots=True)
class Task:
    """Explore share number `share[0]` of `share[1]` of a scenario, or of a sample of it, one in so many states. Every
    `nested`th recovery that is lived through is cut again (0: none). With a bug, only until it is found."""

    scenario: str
    share: tuple[int, int] = (0, 1)
    sample: int = 1
    nested: int = 0
    bug: str = ""

    def mine(self, state: State) -> bool:
        """Is this state in the share? States that may lead to the same recovery are in the same one."""
        number, shares = self.share
        return crc32("".join(sorted(state.left)).encode()) % shares == number


@dataclass(slots=True)
class Findings:
    """Distinct states by their digests, those of cuts inside recoveries apart; each violation says where it was met."""

    task: Task
    states: set[bytes] = field(default_factory=set)
    nested: set[bytes] = field(default_factory=set)
    per_operation: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    lived: int = 0
    """Recoveries that were lived through, those from cuts inside recoveries among them."""
    recalled: int = 0
    """Recoveries that could only go the way of an earlier one."""

    def add(self, recovery: Recovery) -> None:
        """One more state was recovered from."""
        self.violations += recovery.broken
        if recovery.nested:
            self.nested.add(recovery.digest)
        elif recovery.digest not in self.states:
            self.states.add(recovery.digest)
            self.per_operation[recovery.operation] += 1


def prepare() -> None:
    """Once in each process: thousands of devices need not log."""
    logging.disable(logging.CRITICAL)


def work(task: Task) -> Findings:
    """Do it."""
    if task.bug:
        return _look_for(task)
    scenario, start, states, broken = _recorded(task.scenario)
    findings, verdicts = Findings(task, violations=list(broken)), Verdicts()
    for state in states[task.sample // 2 :: task.sample]:
        if task.mine(state):
            again = task.nested > 0 and verdicts.lived % task.nested == 0
            for recovery in recover(scenario, state, start, verdicts, again=again):
                findings.add(recovery)
    findings.lived, findings.recalled = verdicts.lived, verdicts.recalled
    return findings


@lru_cache(maxsize=1)
def _recorded(name: str) -> tuple[Scenario, Start, list[State], list[str]]:
    """The shares of a scenario come one after the other."""
    scenario = next(one for one in SCENARIOS if one.name == name)
    start = begin(scenario)
    states, broken = record(scenario, start)
    return scenario, start, states, broken


def _look_for(task: Task) -> Findings:
    bug = next(one for one in BUGS if one.name == task.bug)
    scenario = next(one for one in SCENARIOS if one.name == task.scenario)
    start = replace(begin(scenario), disk=bug.disk)
    verdicts = Verdicts()
    with bug.seeded():
        states, broken = record(scenario, start, orders=1)
        for state in states:
            if broken:
                break
            broken = [
                one for recovery in recover(scenario, state, start, verdicts, again=False) for one in recovery.broken
            ]
    return Findings(task, violations=broken)
