"""One command's hub and output. Every command takes the same four options, so they are added in one place."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click
import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperCommand

from fleetloop.client import HubClient, Json
from fleetloop.console.plain import lines, readable, said
from wire.adapters.https import API_KEY_VARIABLE, CA_VARIABLE, HUB_URL, URL_VARIABLE, read_api_key
from wire.errors import MalformedError

WHOLE_LINES = 10_000
LONGEST_WORD = 20
"""Longer ones are folded when the terminal is narrow."""


def _console() -> Console:
    """As wide as the terminal; whoever reads something else, such as a file, gets whole lines."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WHOLE_LINES
    return Console(highlight=False, soft_wrap=True, markup=False, width=width)


@dataclass
class Session:
    """What a command works with."""

    url: str
    api_key_file: str
    ca_file: str
    json: bool
    out: Console = field(default_factory=_console)

    def hub(self) -> HubClient:
        """The API with the rights of the key in the file. Raises MalformedError."""
        return HubClient(self.url, read_api_key(self.api_key_file), ca_file=self.ca_file)

    def table(self, rows: Sequence[Json], columns: Mapping[str, Callable[[Json], object]]) -> None:
        """A table for people, or the rows as they are. What names a row, and every word, stays in one piece."""
        if self.json:
            self.document(rows)
            return
        table = Table(box=None, header_style="bold", pad_edge=False)
        texts = [[said(cell(row)) for cell in columns.values()] for row in rows]
        for number, name in enumerate(columns):
            words = [len(word) for cells in texts for word in cells[number].split()]
            whole = min(max(words, default=0), LONGEST_WORD)
            table.add_column(name, no_wrap=not number, min_width=whole, overflow="fold")
        for cells in texts:
            table.add_row(*cells)
        self.out.print(table)

    def show(self, document: Json) -> None:
        """One thing with all its fields, by lines for people."""
        if self.json:
            self.document(document)
        else:
            self.out.print("\n".join(lines(readable(document))), markup=False)

    def document(self, document: Any) -> None:
        """One JSON document."""
        print(json.dumps(document, indent=2, ensure_ascii=False))

    def line(self, document: Any) -> str:
        """One JSON document in one line."""
        return json.dumps(document, ensure_ascii=False)

    def say(self, text: str, document: Any) -> None:
        """A line for people, or the document."""
        if self.json:
            self.document(document)
        else:
            self.out.print(text, markup=False)


class HubCommand(TyperCommand):
    """A command that speaks to a hub: `context.obj` is its Session."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.params += [
            _common("--url", URL_VARIABLE, "The hub.", default=HUB_URL, show_default=True),
            _common("--api-key-file", API_KEY_VARIABLE, "File that holds an API key."),
            _common("--ca-file", CA_VARIABLE, "Authority (PEM) of the hub's certificate."),
            click.Option(["--json", "as_json"], is_flag=True, help="Print what the API said, as JSON."),
        ]

    def get_help(self, ctx: click.Context) -> str:
        """Typer escapes brackets for rich, which prints nothing here."""
        return super().get_help(ctx).replace("\\[", "[")

    def invoke(self, ctx: click.Context) -> Any:
        """Run it with its session."""
        taken = [ctx.params.pop(name) for name in ("url", "api_key_file", "ca_file", "as_json")]
        ctx.obj = Session(*taken)
        return super().invoke(ctx)


def _common(option: str, variable: str, text: str, default: str = "", *, show_default: bool = False) -> click.Option:
    """An option that every program has which speaks to a hub."""
    shown = {"show_default": show_default, "show_envvar": True}
    return click.Option([option], default=default, envvar=variable, help=text, **shown)


def session(context: typer.Context) -> Session:
    """The session of the command that runs."""
    found: Session = context.obj
    return found


def pairs(texts: Sequence[str]) -> dict[str, str]:
    """`name=value` as a mapping. Raises MalformedError."""
    for text in texts:
        if "=" not in text:
            raise MalformedError(f"{text!r}: write it as name=value")
    return dict(text.split("=", 1) for text in texts)
