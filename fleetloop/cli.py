"""The `fleetloop` command: finds the program asked for, merges its settings, sets up logging, runs it.

Programs are named by string and imported when they are run, so that `fleetloop agent` works in an installation that has
neither a web framework nor torch. Every program is a settings struct and a function; its flags, its environment
variables and the keys of its configuration file all come from that struct.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from fleetloop import __version__
from fleetloop.logs import LogFormat, set_up_logging
from wire.errors import MalformedError
from wire.settings import describe, load

EXIT_USAGE = 2


@dataclass(frozen=True)
class Program:
    """One of the programs: where its settings and its entry function are, and what it needs installed."""

    package: str
    help: str
    extra: str

    @property
    def settings(self) -> type[msgspec.Struct]:
        """The settings struct."""
        kind: type[msgspec.Struct] = importlib.import_module(f"{self.package}.settings").Settings
        return kind

    @property
    def run(self) -> Callable[[Any], int]:
        """The entry function: settings -> exit code."""
        run: Callable[[Any], int] = importlib.import_module(f"{self.package}.main").run
        return run


PROGRAMS = {
    "hub": Program(
        "cloud", "the cloud fleet API: registry, rollouts, federated runs, broker, web page", "hub,fl,train"
    ),
    "publisher": Program(
        "cloud.publisher", "signs what its policy or a person approves; holds the release keys", "hub"
    ),
    "agent": Program("edge_agent", "the edge agent daemon, and what it says of itself", ""),
    "sim": Program("simulator", "the fleet simulator: the real hub and agent code in virtual time", "hub"),
    "demo": Program("fleetloop.demo", "the whole loop on this machine with real data", "hub,fl,train,watch"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = _top_parser()
    name = parser.parse_args(words[:1]).program
    program = PROGRAMS[name]
    try:
        return _run(name, program, words[1:])
    except ModuleNotFoundError as error:
        wanted = f"[{program.extra}]" if program.extra else ""
        print(f"fleetloop {name}: {error.name!r} is not installed; pip install 'fleetloop{wanted}'", file=sys.stderr)
        return EXIT_USAGE
    except MalformedError as error:
        print(f"fleetloop {name}: {error}", file=sys.stderr)
        return EXIT_USAGE


def _run(name: str, program: Program, words: list[str]) -> int:
    kind = program.settings
    prefix = f"FLEETLOOP_{name.upper()}"
    flags = vars(_program_parser(name, program, kind, prefix).parse_args(words))
    config = flags.pop("config") or os.environ.get(f"{prefix}_CONFIG")
    level, log_format = flags.pop("log_level"), flags.pop("log_format")
    settings = load(kind, _read_config(config), os.environ, flags, prefix)
    set_up_logging(level, log_format)
    return program.run(settings)


def _read_config(path: str | None) -> bytes:
    if path is None:
        return b""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise MalformedError(f"configuration file {path}: {error.strerror}") from error


def _top_parser() -> argparse.ArgumentParser:
    lines = [f"  {name:<10} {program.help}" for name, program in PROGRAMS.items()]
    parser = argparse.ArgumentParser(
        prog="fleetloop",
        usage="fleetloop PROGRAM [options]",
        description="Closes the loop between a cloud that trains models and a fleet of devices that run them.",
        epilog="programs:\n" + "\n".join(lines) + "\n\n`fleetloop PROGRAM --help` shows its options.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("program", choices=PROGRAMS, metavar="PROGRAM", help=", ".join(PROGRAMS))
    parser.add_argument("--version", action="version", version=f"fleetloop {__version__}")
    return parser


def _program_parser(name: str, program: Program, kind: type[msgspec.Struct], prefix: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"fleetloop {name}",
        description=f"{program.help[0].upper()}{program.help[1:]}.",
        epilog="Every option above --config is also a key of the TOML file and an environment variable "
        f"({prefix}_<OPTION>). The command line wins over the environment, the environment over the file.",
    )
    hints, texts = get_type_hints(kind), describe(kind)
    for field in msgspec.structs.fields(kind):
        _add_option(parser, field, hints[field.name], texts[field.name])
    parser.add_argument("--config", metavar="FILE", help=f"configuration file (TOML); also {prefix}_CONFIG")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    parser.add_argument("--log-format", default="text", choices=get_args(LogFormat), help="how log lines are written")
    return parser


def _add_option(parser: argparse.ArgumentParser, field: Any, hint: object, text: str) -> None:
    default = _shown_default(field)
    if field.name == "action":
        choices = get_args(hint) if get_origin(hint) is Literal else None
        parser.add_argument("action", nargs="?", choices=choices, help=f"{text}{default}")
        return
    flag = "--" + field.name.replace("_", "-")
    if hint is bool:
        parser.add_argument(flag, action="store_const", const="true", help=f"{text}{default}")
        parser.add_argument(
            f"--no-{flag[2:]}", action="store_const", const="false", dest=field.name, help=argparse.SUPPRESS
        )
        return
    parser.add_argument(flag, metavar=field.name.split("_")[-1].upper(), help=f"{text}{default}")


def _shown_default(field: Any) -> str:
    if field.default is msgspec.NODEFAULT or field.default in ("", None, False, ()):
        return ""
    return f" (default: {field.default})".replace("%", "%%")
