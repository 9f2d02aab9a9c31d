"""`fleetloop sim`: plays scenarios with progress on stderr and prints what came out; the exit code says how it went."""

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from simulator.alarm import quiet_programs
from simulator.campaign import Task, make, make_all
from simulator.comparison import as_comparison_json, as_comparison_lines, compare
from simulator.fuzz.command import Order, fuzz
from simulator.options import adjusted
from simulator.page.document import write_comparison, write_report
from simulator.report import Report, as_json, as_lines, as_table
from simulator.scenario.document import Policy
from simulator.scenario.reading import find, parse_policy, shipped
from simulator.scenario.schema import schema
from simulator.settings import Settings
from wire.errors import MalformedError

EXIT_FAILED = 1

__all__ = ["quiet_programs", "run"]


def run(settings: Settings) -> int:
    """0 when every expectation was met in every run, else 1. Raises MalformedError with file, line and field."""
    match settings.action:
        case "list":
            return _list(settings)
        case "schema":
            print(schema(), end="")
            return 0
        case "check":
            scenario = find(settings.scenario)
            told = {"scenario": settings.scenario, "title": scenario.title, "expectations": len(scenario.expect)}
            print(
                json.dumps(told) if settings.json else "{scenario}: {title}: {expectations} expectations".format(**told)
            )
            return 0
        case "compare":
            return _compare(settings)
        case "fuzz":
            _drawn_alone(settings)
            order = Order(settings.seeds, settings.seed, settings.processes, settings.only, settings.json)
            return fuzz(order)
        case "run":
            return _run(settings)


def _drawn_alone(settings: Settings) -> None:
    """Fuzz draws fleet, networks and faults itself; what is said of them would not be heard."""
    plain = Settings()
    for name in ("scenario", "devices", "policies", "loss", "duplication", "reboots", "reconnects", "kills", "html"):
        if getattr(settings, name) != getattr(plain, name):
            raise MalformedError(f"{name}: fuzz draws its own fleets and faults by their seed and writes no page")


def _can_be_written(name: str) -> None:
    """A report that finds no place when hours of runs are over is lost."""
    try:
        if name:
            Path(name).open("a").close()
    except OSError as error:
        raise MalformedError(f"--html {name}: {error.strerror}") from error


def _list(settings: Settings) -> int:
    scenarios = {name: find(name) for name in shipped()}
    if settings.json:
        shown = [
            {"name": name, "title": one.title, "devices": one.population.devices} for name, one in scenarios.items()
        ]
        print(json.dumps({"scenarios": shown}))
        return 0
    width = max(map(len, scenarios))
    for name, scenario in scenarios.items():
        print(f"{name:<{width}}  {scenario.title} ({scenario.population.devices:,} devices)")
    return 0


def _run(settings: Settings) -> int:
    scenario = adjusted(find(settings.scenario), settings)
    _can_be_written(settings.html)
    tasks = [Task(scenario, settings.seed + number) for number in range(settings.seeds)]
    reports = [_watched(tasks[0])] if len(tasks) == 1 else _made(tasks, settings.processes)
    if settings.html:
        Path(settings.html).write_text(write_report(scenario, reports), encoding="utf-8")
    if settings.json:
        print(as_json(reports))
    else:
        print("\n".join(as_lines(reports[0]) if len(reports) == 1 else as_table(reports)))
    return 0 if all(report.passed for report in reports) else EXIT_FAILED


def _compare(settings: Settings) -> int:
    """Figures, not a verdict: the exit code is 0 however the policies did."""
    scenario = adjusted(find(settings.scenario), settings)
    policies = (*scenario.policies, *(_policy(name) for name in settings.policies))
    if len(policies) < 2:
        raise MalformedError(f"{settings.scenario}: a comparison needs two policies: in the file, or with --policies")
    names = [policy.name for policy in policies]
    twins = [name for name in names if names.count(name) > 1]
    if twins:
        raise MalformedError(f"two policies are called {twins[0]!r}: give one of them another `name`")
    _can_be_written(settings.html)
    seeds = range(settings.seed, settings.seed + settings.seeds)
    reports = _made([Task(scenario, seed, policy) for policy in policies for seed in seeds], settings.processes)
    comparison = compare(scenario, names, reports)
    if settings.html:
        Path(settings.html).write_text(write_comparison(scenario, comparison, reports), encoding="utf-8")
    print(as_comparison_json(comparison) if settings.json else "\n".join(as_comparison_lines(comparison)))
    return 0


def _policy(name: str) -> Policy:
    try:
        return parse_policy(Path(name).read_bytes(), name)
    except OSError as error:
        raise MalformedError(f"{name}: {error.strerror}") from error


def _bars() -> Progress:
    columns = (TextColumn("{task.description:<14}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(file=sys.stderr))


def _watched(task: Task) -> Report:
    """One run with a bar for each of its stages."""
    with _bars() as bars:
        stages: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = bars.add_task(stage, total=total)
            bars.update(stages[stage], completed=done, total=total)

        return make(task, show)


def _made(tasks: list[Task], processes: int) -> list[Report]:
    """Many runs with one bar."""
    with _bars() as bars:
        bar = bars.add_task("runs", total=len(tasks))
        return make_all(tasks, processes, lambda done: bars.update(bar, completed=done))
