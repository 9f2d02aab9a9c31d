"""One command's hub and output. Every command takes the same four options, so they are added in one place."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperCommand

from fleetloop.client import HubClient, Json
from wire.errors import MalformedError

DEFAULT_URL = "http://127.0.0.1:8600"
SECOND_NS = 1_000_000_000
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
        if not self.api_key_file:
            raise MalformedError("api_key_file is not set: name a file with an API key, or set FLEETLOOP_API_KEY_FILE")
        try:
            key = Path(self.api_key_file).read_text(errors="replace").strip()
        except OSError as error:
            raise MalformedError(f"api_key_file {self.api_key_file}: {error.strerror}") from error
        if not (key.isascii() and key.isprintable() and key):
            raise MalformedError(f"api_key_file {self.api_key_file} holds no API key (one line, flk_...)")
        return HubClient(self.url, key, ca_file=self.ca_file)

    def table(self, rows: Sequence[Json], columns: Mapping[str, Callable[[Json], object]]) -> None:
        """A table for people, or the rows as they are. What names a row, and every word, stays in one piece."""
        if self.json:
            self.document(rows)
            return
        table = Table(box=None, header_style="bold", pad_edge=False)
        texts = [[_text(cell(row)) for cell in columns.values()] for row in rows]
        for number, name in enumerate(columns):
            words = [len(word) for text in texts for word in text[number].split()]
            whole = min(max(words, default=0), LONGEST_WORD)
            table.add_column(name, no_wrap=not number, min_width=whole, overflow="fold")
        for text in texts:
            table.add_row(*text)
        self.out.print(table)

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
            click.Option(["--url"], default=DEFAULT_URL, envvar="FLEETLOOP_URL", show_default=True, help="The hub."),
            click.Option(
                ["--api-key-file"], default="", envvar="FLEETLOOP_API_KEY_FILE", help="File that holds an API key."
            ),
            click.Option(
                ["--ca-file"], default="", envvar="FLEETLOOP_CA_FILE", help="Authority (PEM) of the hub's certificate."
            ),
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


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return " ".join(f"{name}={one}" for name, one in sorted(value.items())) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
