"""The `fleetloop` command: finds the program asked for, merges its settings, sets up logging, runs it.

Programs are named by string and imported when they are run, so that `fleetloop agent` works in an installation that has
neither a web framework nor torch. Every program is a settings struct and a function; its flags, its environment
variables and the keys of its configuration file all come from that struct.
"""

import argparse
import importlib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from fleetloop import __version__
from fleetloop.logs import LogFormat, set_up_logging
from wire.errors import MalformedError
from wire.settings import describe, load

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
"""As shells say it of a program that Ctrl-C ended."""
POSITIONAL = ("action", "scenario")
"""Settings that are said without a flag."""


@dataclass(frozen=True)
class Program:
    """One of the programs: where its `Settings` and its `run` function are, and what it needs installed."""

    settings_module: str
    main_module: str
    help: str
    extra: str

    @property
    def settings(self) -> type[msgspec.Struct]:
        """The settings struct."""
        kind: type[msgspec.Struct] = importlib.import_module(self.settings_module).Settings
        return kind

    @property
    def run(self) -> Callable[[Any], int]:
        """The entry function: settings -> exit code."""
        run: Callable[[Any], int] = importlib.import_module(self.main_module).run
        return run


def _package(name: str, text: str, extra: str) -> Program:
    return Program(f"{name}.settings", f"{name}.main", text, extra)


def _proof(module: str, text: str) -> Program:
    return Program(f"bench.{module}", f"bench.{module}", text, "hub,fl,train,watch,dev")


PROGRAMS = {
    "hub": _package(
        "cloud", "the cloud fleet API: registry, rollouts, federated runs, broker, web page", "hub,fl,train"
    ),
    "publisher": _package(
        "cloud.publisher", "signs what its policy or a person approves; holds the release keys", "hub"
    ),
    "keys": _package("fleetloop.keys", "the root of trust: makes, rotates and revokes keys; works offline", "hub"),
    "agent": _package("edge_agent", "the edge agent daemon, and what it says of itself", ""),
    "sim": _package("simulator", "the fleet simulator: the real hub and agent code in virtual time", "hub"),
    "sim live": _package(
        "simulator.live", "real MQTT sessions by the thousand against a real broker and hub", "hub,fl"
    ),
    "demo": _package("fleetloop.demo", "the whole loop on this machine with real data", "hub,fl,train,watch"),
}

BENCHES = {
    "loop": _proof("loop", "the demonstration over several seeds: left arms learned, right arms kept"),
    "crash": _proof("crash", "crash states of everything the agent writes, recovered from, again crashing inside"),
    "kill": _proof("kill", "the real agent killed and denied its disk at every system call that matters"),
    "attacks": _proof("attacks", "the threat table as cases, each of which succeeds once its guard is removed"),
    "tuf-conformance": _proof("tuf_conformance", "the public TUF suite through the agent's own client over MQTT"),
    "transfer": _proof("transfer", "one object to many devices over mosquitto, beside a bare reader"),
    "delta": _proof("delta", "bytes of an update as a delta, for four kinds of change"),
    "broker-kill": _proof("broker_kill", "a rollout while its broker is killed and reconnected to over and over"),
    "ingest": _proof("ingest", "telemetry into the database beside the broker's own fan-in, and the API meanwhile"),
    "hub-kill": _proof("hub_kill", "two hubs on PostgreSQL, killed and paused over and over during rollouts"),
    "fuzz": _proof("fuzz", "hostile bytes for every parser of the contract"),
    "gates": _proof("gates", "false halts, missed halts and devices exposed, of our gates and of fixed thresholds"),
    "sim-virtual": _proof("sim_virtual", "a fleet in virtual time: how fast, and the same every time"),
    "rollout-tick": _proof("rollout_tick", "one tick of a rollout over 100,000 devices, from a cold database"),
    "sim-fuzz": _proof("sim_fuzz", "random lives under random faults, every cut point, bugs seeded on purpose"),
    "model-gate": _proof("model_gate", "damaged model files for the installer child"),
    "sim-live": _proof("sim_live", "ten thousand agents as real sessions: memory, a rollout, a storm"),
    "memory": _proof("memory", "memory of the agent's whole process tree, before and with a model"),
}
"""`fleetloop bench NAME`: each proves one promise; its last line is one JSON object."""


NOUNS = {
    "devices": "see devices, announce, label, hold, pin and revoke them",
    "groups": "selectors under a name",
    "fleet": "the whole fleet: who is there, and its halt",
    "models": "models and their versions",
    "jobs": "what the hub trains, how far it is, and why it failed",
    "artefacts": "model files: upload, see and download them",
    "rollouts": "start, steer and watch rollouts",
    "federated": "runs in which devices learn together",
    "signing": "what waits for the publisher, and what it decided",
    "trust": "which trust metadata stands, until when, and under which keys",
    "access": "API keys: who may do what, where, and until when",
    "audit": "who changed what",
    "plan": "how the fleet differs from a file",
    "apply": "bring the fleet to what a file says",
    "export": "write the fleet as it is, as a file for plan and apply",
}
"""What operators do; each has its own commands, in `fleetloop.console`."""
COMPLETION = "_FLEETLOOP_COMPLETE"
"""Set by a shell that wants to know how a command goes on."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if COMPLETION in os.environ or (words and words[0] in (*NOUNS, "--install-completion", "--show-completion")):
        return _operate(words)
    named = 2 if " ".join(words[:2]) in PROGRAMS else 1
    name = _parser("fleetloop", "PROGRAM", _everything()).parse_args([" ".join(words[:named])] if words else []).name
    program, rest = PROGRAMS.get(name), words[named:]
    if program is None:
        proof = _parser("fleetloop bench", "NAME", BENCHES).parse_args(rest[:1]).name
        name, program, rest = f"bench {proof}", BENCHES[proof], rest[1:]
    try:
        return _run(name, program, rest)
    except ModuleNotFoundError as error:
        print(f"fleetloop {name}: {error.name!r} is not installed; {_install(program.extra)}", file=sys.stderr)
        return EXIT_USAGE
    except MalformedError as error:
        print(f"fleetloop {name}: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print(f"fleetloop {name}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _operate(words: list[str]) -> int:
    try:
        from fleetloop.console.main import run
    except ModuleNotFoundError as error:
        print(f"fleetloop {words[0]}: {error.name!r} is not installed; {_install('hub')}", file=sys.stderr)
        return EXIT_USAGE
    return run(words)


def _install(extra: str) -> str:
    """From a checkout: nothing is published, so an index has no such package, or somebody else's."""
    return f"pip install '.{f'[{extra}]' if extra else ''}' in a checkout"


def _everything() -> dict[str, Program]:
    nouns = {name: Program("", "", text, "hub") for name, text in NOUNS.items()}
    return {
        **PROGRAMS,
        **nouns,
        "bench": _proof("", "proofs of what is promised, each with one JSON object as its last line"),
    }


def _run(name: str, program: Program, words: list[str]) -> int:
    kind = program.settings
    prefix = "FLEETLOOP_" + re.sub("[^A-Z]", "_", name.upper())
    flags = vars(_program_parser(name, program, kind, prefix).parse_intermixed_args(words))
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


def _parser(prog: str, what: str, programs: Mapping[str, Program]) -> argparse.ArgumentParser:
    width = max(map(len, programs))
    lines = [f"  {name:<{width}} {program.help}" for name, program in programs.items()]
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog} {what} [options]",
        description="Closes the loop between a cloud that trains models and a fleet of devices that run them.",
        epilog=f"{what.lower()}s:\n" + "\n".join(lines) + f"\n\n`{prog} {what} --help` shows its options.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=programs, metavar=what, help=", ".join(programs))
    parser.add_argument("--version", action="version", version=f"fleetloop {__version__}")
    return parser


def _program_parser(name: str, program: Program, kind: type[msgspec.Struct], prefix: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"fleetloop {name}",
        description=f"{program.help[0].upper()}{program.help[1:]}.",
        epilog=_further(name)
        + "Every option above --config is also a key of the TOML file and an environment variable "
        f"({prefix}_<OPTION>). The command line wins over the environment, the environment over the file.",
    )
    hints, texts = get_type_hints(kind), describe(kind)
    for field in msgspec.structs.fields(kind):
        _add_option(parser, field, hints[field.name], texts[field.name])
    parser.add_argument("--config", metavar="FILE", help=f"configuration file (TOML); also {prefix}_CONFIG")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    parser.add_argument("--log-format", default="text", choices=get_args(LogFormat), help="how log lines are written")
    return parser


def _further(name: str) -> str:
    """Programs whose names go on from this one's: its own help would not name them."""
    return "".join(
        f"`fleetloop {one}`: {program.help}. " for one, program in PROGRAMS.items() if one.startswith(f"{name} ")
    )


def _add_option(parser: argparse.ArgumentParser, field: Any, hint: object, text: str) -> None:
    default = _shown_default(field)
    if field.name in POSITIONAL:
        known = get_args(hint) if get_origin(hint) is Literal else None
        parser.add_argument(field.name, nargs="?", choices=known, help=f"{text}{default}")
        return
    flag = "--" + field.name.replace("_", "-")
    if hint is bool:
        parser.add_argument(flag, action="store_const", const="true", help=f"{text}{default}")
        parser.add_argument(
            f"--no-{flag[2:]}", action="store_const", const="false", dest=field.name, help=argparse.SUPPRESS
        )
        return
    values = "|".join(one for one in get_args(hint) if one) if get_origin(hint) is Literal else ""
    parser.add_argument(flag, metavar=values or field.name.split("_")[-1].upper(), help=f"{text}{default}")


def _shown_default(field: Any) -> str:
    if field.default is msgspec.NODEFAULT or field.default in ("", None, False, ()):
        return ""
    return f" (default: {field.default})".replace("%", "%%")
