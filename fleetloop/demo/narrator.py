"""What a person sees of the demonstration: stages with their progress on standard error, and a table at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table


class Narrator:
    """Tells the story. Standard output stays free for the JSON object."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text)

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[None]:
        """A stage of the story; `total` steps if they can be counted."""
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            self._progress, self._task = progress, progress.add_task(title, total=total)
            yield
            elapsed = progress.tasks[0].elapsed or 0.0
        self._progress = None
        self.console.print(f"[green]✓[/green] {title} [dim]{elapsed:.1f} s[/dim]")

    def advance(self, done: int, total: int | None = None, title: str | None = None) -> None:
        """How far the present stage is."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, total=total, description=title)

    def summary(self, report: dict[str, Any]) -> None:
        """The figures of the run: what the unseen people got, what it cost, and where each version came from."""
        table = Table(title="People the fleet never learned from", title_justify="left")
        for column in ("v", "variant", "bytes", "committed", "right", "left", "sure, left", "p50 ms"):
            table.add_column(column, justify="right")
        for row in report["versions"]:
            table.add_row(
                str(row["version"]),
                row["variant"],
                f"{row['bytes']:,} ({row['bytes'] / row['fp32_bytes']:.0%})",
                f"{row['committed']}/{report['devices']}",
                f"{row['accuracy_unseen_right']:.3f}",
                f"{row['accuracy_unseen_left']:.3f}",
                f"{row['mean_confidence_left']:.3f}",
                f"{row['p50_ms']:.2f}",
            )
        self.console.print(table)
        run = report["federated"]
        self.say(
            f"{run['strategy']}: {run['rounds']} rounds, {run['clients']} devices, "
            f"{run['bytes_down_per_round'] / 1000:.0f} kB down and {run['bytes_up_per_round'] / 1000:.0f} kB up "
            f"in {run['seconds_per_round']:.2f} s a round"
        )
        for row in report["lineage"]:
            self.say(f"version {row['version']}: {_origin(row)}")
        self.say(f"agents: at most {report['agent_peak_rss_mb']:.0f} MB each, without torch and flwr")
        self.say(f"{report['wall_s']:.0f} s in all")


def _origin(row: dict[str, Any]) -> str:
    if row["federated_run"]:
        return f"learned by the fleet from version {row['parent_version']} in run {row['federated_run'][:10]}"
    return f"trained in job {row['job'][:10]} on data {row['data_sha256'][:10]}"
