"""The commands that nouns have in common, each written once: `list`, `show` and `watch`.

A noun says which call asks the hub, and what of the answer people see. With `--json` it is the answer as it came;
`watch` prints each change of it in a line of its own.
"""

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn

from fleetloop.client import HubClient, Json
from fleetloop.console.exits import Exit
from fleetloop.console.following import followed
from fleetloop.console.session import HubCommand, Session, session

Columns = Mapping[str, Callable[[Json], object]]


@dataclass(frozen=True, slots=True)
class Sight:
    """What people see of something that is under way."""

    text: str
    done: int = 0
    total: int | None = None
    """None: nobody knows how much there is to do."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Course:
    """Something that goes on until its state is one of `ended`."""

    ended: Collection[str]
    sight: Callable[[Json], Sight]
    verdict: Callable[[Json], str]
    """How it ended, after its state."""


def listing(app: typer.Typer, ask: Callable[[HubClient], Sequence[Json]], columns: Columns, text: str) -> None:
    """`list`: all of them in a table."""

    def list_all(context: typer.Context) -> None:
        here = session(context)
        with here.hub() as hub:
            here.table(ask(hub), columns)

    app.command("list", cls=HubCommand, help=text)(list_all)


def showing(app: typer.Typer, what: str, ask: Callable[[HubClient, str], Json], text: str, name: str = "show") -> None:
    """`show`: one of them, such as a JOB, with all its fields."""

    def show(context: typer.Context, which: Annotated[str, typer.Argument(metavar=what)]) -> None:
        with session(context).hub() as hub:
            session(context).show(ask(hub, which))

    app.command(name, cls=HubCommand, help=text)(show)


def watching(app: typer.Typer, what: str, ask: Callable[[HubClient, str], Iterable[Json]], course: Course) -> None:
    """`watch`: follow one of them to its end."""

    def watch(context: typer.Context, which: Annotated[str, typer.Argument(metavar=what)]) -> None:
        here = session(context)
        with here.hub() as hub:
            views = _changes(followed(lambda: ask(hub, which), course.ended))
            first = next(views)  # what is not there is refused before anything is drawn
            views = itertools.chain([first], views)
            last = _as_lines(here, views) if here.json else _drawn(here, views, course)
        raise typer.Exit(Exit.DONE if last["state"] == "succeeded" else Exit.FAILED)

    text = "Follow it to its end; exit code 0 only if it succeeded. With --json: one line for each change."
    app.command("watch", cls=HubCommand, help=text)(watch)


def _changes(views: Iterator[Json]) -> Iterator[Json]:
    last = None
    for view in views:
        if view != last:
            yield view
        last = view


def _as_lines(here: Session, views: Iterator[Json]) -> Json:
    view: Json = {}
    for view in views:
        print(here.line(view), flush=True)
    return view


def _drawn(here: Session, views: Iterator[Json], course: Course) -> Json:
    view: Json = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=here.out) as progress:
        bar = progress.add_task("", total=None, note="")
        for view in views:
            sight = course.sight(view)
            progress.update(bar, description=sight.text, total=sight.total, completed=sight.done, note=sight.note)
    here.out.print(f"{view['state']}: {course.verdict(view)}", markup=False)
    return view
