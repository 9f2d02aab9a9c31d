"""`fleetloop sim live`: real sessions against a real broker and hub; progress on stderr, a report at the end."""

import asyncio
import contextlib
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cloud.ports import BrokerError
from simulator.live.fleet import ClaimsError, Fleet, Show, Storm, fleet, own_hub
from simulator.live.hub import OverdueError
from simulator.live.report import TRANSPORTS, Report, RolledOut, as_json, as_lines
from simulator.live.settings import Settings
from simulator.live.snapshot import Snapshot
from simulator.live.workers import LimitError
from simulator.main import EXIT_FAILED, quiet_programs

EXIT_USAGE = 2


def run(settings: Settings) -> int:
    """0 when every device is as it should be, 1 when not, 2 when what was asked for cannot be."""
    with quiet_programs(), _directory(settings) as directory, _progress() as show:
        try:
            report = asyncio.run(_Run(settings, show).play(directory))
        except (LimitError, ClaimsError, BrokerError, OverdueError) as error:
            print(f"fleetloop sim live: {error}", file=sys.stderr)
            return EXIT_USAGE
    print(as_json(report) if settings.json else "\n".join(as_lines(report)))
    return 0 if report.passed else EXIT_FAILED


class _Run:
    """One run and what it has found so far."""

    def __init__(self, settings: Settings, show: Show) -> None:
        self._settings = settings
        self._show = show
        self._joined_s = 0.0
        self._rollouts: list[RolledOut] = []
        self._weathered: Storm | None = None
        self._trouble = ""
        self._last = Snapshot()
        self._lost = settings.devices

    async def play(self, directory: Path) -> Report:
        """From the first device to the last goodbye."""
        async with contextlib.AsyncExitStack() as stack:
            own = None
            if not self._settings.claims:
                own = await stack.enter_async_context(own_hub(self._settings, directory))
            one = await stack.enter_async_context(fleet(self._settings, directory, own, self._show))
            story = asyncio.create_task(self._story(one), name="story")
            with _stopped_by_signals(story):
                await asyncio.wait([story])
            if not story.cancelled():
                story.result()
            elif len(self._rollouts) < (self._settings.rollouts if own else 0):
                self._trouble = "stopped before every version was everywhere"
            self._last = one.workers.now
            self._lost = await one.lost(self._rollouts[-1].version if self._rollouts else 0)
        return self._report()

    async def _story(self, one: Fleet) -> None:
        settings = self._settings
        try:
            self._joined_s = await one.joined()
            last = settings.rollouts - 1 if one.hub else -1
            for number in range(last):
                await self._roll_out(one, number)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._storm(one), name="storm")
                if last >= 0:
                    group.create_task(self._roll_out(one, last), name="last rollout")
        except* OverdueError as late:
            self._trouble = "; ".join(str(error) for error in late.exceptions)
        await asyncio.sleep(settings.stay_s)

    async def _roll_out(self, one: Fleet, number: int) -> None:
        version, seconds = await one.roll_out(number)
        self._rollouts.append(RolledOut(version=version, seconds=round(seconds, 2)))

    async def _storm(self, one: Fleet) -> None:
        if self._settings.storm_after_s:
            await asyncio.sleep(self._settings.storm_after_s)
            self._weathered = await one.storm()

    def _report(self) -> Report:
        settings, now, storm = self._settings, self._last, self._weathered
        return Report(
            passed=not (self._lost or self._trouble or now.crashes),
            transport=TRANSPORTS["claims" if settings.claims else settings.transport],
            joined_s=round(self._joined_s, 2),
            rollouts=tuple(self._rollouts),
            storm_s=round(storm.back_s, 2) if storm else None,
            met_s=round(storm.met_s, 2) if storm and storm.met_s is not None else None,
            lost=self._lost,
            trouble=self._trouble,
            fleet=now,
            kib_per_device=round(now.kib_per_device, 1),
        )


@contextlib.contextmanager
def _stopped_by_signals(story: "asyncio.Task[None]") -> Iterator[None]:
    """SIGINT and SIGTERM end the story; the devices still say goodbye."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, story.cancel)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def _directory(settings: Settings) -> Iterator[Path]:
    if settings.state:
        path = Path(settings.state)
        path.mkdir(parents=True, exist_ok=True)
        yield path.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="fleetloop-live-") as name:
        yield Path(name)


@contextlib.contextmanager
def _progress() -> Iterator[Show]:
    columns = (TextColumn("{task.description:<14}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=sys.stderr)) as bars:
        stages: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = bars.add_task(stage, total=total)
            bars.update(stages[stage], completed=done)

        yield show
