"""`fleetloop sim`: plays the story with progress on stderr and prints the report; the exit code says how it went."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from simulator.alarm import PROGRAMS
from simulator.report import Report, as_json, as_lines
from simulator.scenario import Conditions, Story
from simulator.settings import Settings

EXIT_FAILED = 1


def run(settings: Settings) -> int:
    """Play the story. Returns 0 when every expectation was met, else 1. Debug level shows what the programs log."""
    with quiet_programs():
        report = simulate(conditions(settings))
    print(as_json(report) if settings.json else "\n".join(as_lines(report)))
    return 0 if report.passed else EXIT_FAILED


@contextlib.contextmanager
def quiet_programs() -> Iterator[None]:
    """Inside, hub and agents log errors only: in a simulated storm their warnings are the weather."""
    loggers = [logging.getLogger(name) for name in PROGRAMS]
    levels = [logger.level for logger in loggers]
    if logging.getLogger().level > logging.DEBUG:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def conditions(settings: Settings) -> Conditions:
    """The conditions that the settings ask for."""
    return Conditions(
        devices=settings.devices,
        seed=settings.seed,
        loss=settings.loss,
        duplication=settings.duplication,
        reboots=settings.reboots,
        reconnects=settings.reconnects,
        kills=settings.kills,
        bad_share=settings.bad_share,
    )


def simulate(under: Conditions) -> Report:
    """Play the story with progress bars on stderr."""
    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=sys.stderr)) as bars:
        stages: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = bars.add_task(stage, total=total)
            bars.update(stages[stage], completed=done)

        story = Story(under, show)
        began = time.perf_counter()
        story.play()
        return story.report(time.perf_counter() - began)
