"""`fleetloop plan -f fleet.yaml` shows how the fleet differs from the file; `apply` brings it there."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fleetloop.client import HubClient
from fleetloop.console.exits import Exit
from fleetloop.console.fleet_file import Fleet, Step, difference, parse
from fleetloop.console.session import Session, session, write_secret
from wire.errors import MalformedError

File = Annotated[Path, typer.Option("--file", "-f", help="The fleet as it should be (YAML).")]


def plan(context: typer.Context, file: File) -> None:
    """Show how the fleet differs from the file; exit code 8 if it does."""
    here, wanted = session(context), _read(file)
    with here.hub() as hub:
        steps = _steps(hub, wanted)
    _show(here, steps)
    raise typer.Exit(Exit.DIFFERS if steps else Exit.DONE)


def apply(
    context: typer.Context,
    file: File,
    claims: Annotated[Path, typer.Option(help="Where claim files of new devices go, each NAME.json.")] = Path(),
) -> None:
    """Bring the fleet to what the file says; again, it changes nothing. Exit code 6 if a person has to decide."""
    here, wanted = session(context), _read(file)
    with here.hub() as hub:
        steps = _steps(hub, wanted)
        for step in steps:
            _take(hub, step, claims)
    _show(here, steps)
    raise typer.Exit(Exit.CONFLICT if any(step.sign == "!" for step in steps) else Exit.DONE)


def _read(file: Path) -> Fleet:
    try:
        return parse(file.read_bytes(), str(file))
    except OSError as error:
        raise MalformedError(f"{file}: {error.strerror}") from error


def _steps(hub: HubClient, wanted: Fleet) -> list[Step]:
    return difference(wanted, hub.devices(), hub.rollouts())


def _take(hub: HubClient, step: Step, claims: Path) -> None:
    if step.sign == "!":
        return
    if step.what == "rollout":
        body: dict[str, Any] = dict(step.body)
        hub.create_rollout(body.pop("model"), body.pop("version"), **body)
        return
    claim = hub.create_claim(step.name, **step.body)
    if step.sign == "+":
        write_secret(claims / f"{step.name}.json", json.dumps(claim))


def _show(here: Session, steps: list[Step]) -> None:
    if here.json:
        here.document([dataclasses.asdict(step) for step in steps])
        return
    for step in steps:
        here.out.print(f"{step.sign} {step.what} {step.name}: {step.text}", markup=False)
    if not steps:
        here.out.print("the fleet is as the file says")
