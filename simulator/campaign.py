"""Many runs of a scenario, each under its own seed and policy, in as many processes as there are cores."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass

from simulator.alarm import quiet_programs
from simulator.processes import pool
from simulator.report import Report
from simulator.run import Progress, ScenarioRun
from simulator.scenario.document import Policy, Scenario


@dataclass(frozen=True, slots=True)
class Task:
    """One run to be made. `policy` None: the plans of the scenario itself."""

    scenario: Scenario
    seed: int
    policy: Policy | None = None


def make(task: Task, progress: Progress | None = None) -> Report:
    """Make the run, here and now."""
    scenario = task.scenario if task.policy is None else task.scenario.under(task.policy)
    policy = "" if task.policy is None else task.policy.name
    began = time.perf_counter()
    with quiet_programs():
        run = ScenarioRun(scenario, task.seed, progress, policy)
        run.play()
    report = run.report(time.perf_counter() - began)
    run.close()
    return report


def make_all(tasks: Sequence[Task], processes: int, done: Callable[[int], None]) -> list[Report]:
    """Make all runs; their reports in the order of the tasks. `done` hears how many are."""
    workers = min(len(tasks), processes or os.cpu_count() or 1)
    found: dict[int, Report] = {}
    for number, report in _here(tasks) if workers == 1 else _spread(tasks, workers):
        found[number] = report
        done(len(found))
    return [found[number] for number in range(len(tasks))]


def _here(tasks: Sequence[Task]) -> Iterator[tuple[int, Report]]:
    return ((number, make(task)) for number, task in enumerate(tasks))


def _spread(tasks: Iterable[Task], workers: int) -> Iterator[tuple[int, Report]]:
    with pool(workers) as processes:
        numbers = {processes.submit(make, task): number for number, task in enumerate(tasks)}
        try:
            for future in as_completed(numbers):
                yield numbers[future], future.result()
        except BaseException:
            processes.shutdown(
                wait=False, cancel_futures=True
            )  # one run's defect, or Ctrl-C: the others are not waited for
            raise
