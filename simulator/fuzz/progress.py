"""How far something is that takes minutes: a bar for people, on stderr, so that results can be piped."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


@contextlib.contextmanager
def bar(what: str, total: int | None = None) -> Iterator[Callable[[], None]]:
    """Gives what to call after each of `total`; None: nobody knows how many there will be. No thread draws it: who
    calls may fork."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=sys.stderr), auto_refresh=False) as bars:
        task = bars.add_task(what, total=total)

        def advance() -> None:
            bars.advance(task)
            bars.refresh()

        yield advance
