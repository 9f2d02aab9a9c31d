"""`fleetloop plan -f FILE` shows how the fleet differs from a file, `apply` brings it there, `export` writes it."""

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

import typer

from cloud.core.registry import VersionState, why_not_rolled_out
from fleetloop.client import HubClient, HubError
from fleetloop.console import fleet_export
from fleetloop.console.exits import Exit
from fleetloop.console.fleet_file import Fleet, Present, Step, Verb, difference, parse
from fleetloop.console.secret_files import reserved
from fleetloop.console.session import Session, session
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
    """Bring the fleet to what the file says; again, it changes nothing. Exit code 6 if a person has to decide.

    A file with a rollout that is bound to be refused changes nothing either.
    """
    here, wanted = session(context), _read(file)
    with here.hub() as hub:
        steps = _steps(hub, wanted)
        if hopeless := [step for step in steps if step.verb == "give_up"]:
            _show(here, hopeless)
            print("fleetloop: nothing was changed", file=sys.stderr)
            raise typer.Exit(Exit.CONFLICT)
        files = {step.name: claims / f"{step.name}.json" for step in steps if step.verb == "claim"}
        with reserved(list(files.values())):
            for step in steps:
                _take(hub, step, files)
                if not here.json:
                    _show(here, [step])  # should the next one be refused, it is known what was done
    if here.json or not steps:
        _show(here, steps)
    raise typer.Exit(Exit.CONFLICT if any(step.sign == "!" for step in steps) else Exit.DONE)


def export(context: typer.Context) -> None:
    """Write the fleet as it is, as a file for plan and apply, to standard output."""
    with session(context).hub() as hub:
        print(fleet_export.document(_present(hub)).decode(), end="")


def _read(file: Path) -> Fleet:
    try:
        return parse(file.read_bytes(), str(file))
    except OSError as error:
        raise MalformedError(f"{file}: {error.strerror}") from error


def _steps(hub: HubClient, wanted: Fleet) -> list[Step]:
    return [_possible(hub, step) for step in difference(wanted, _present(hub))]


def _possible(hub: HubClient, step: Step) -> Step:
    """The step, unless it rolls out a version that the hub would refuse once all before it had been done."""
    if step.verb != "roll_out":
        return step
    why = _why_not(hub, step.body["model"], step.body["version"])
    return dataclasses.replace(step, sign="!", text=why, verb="give_up", body={}) if why else step


def _why_not(hub: HubClient, model: str, version: int) -> str:
    try:
        view = hub.version(model, version)
    except HubError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return error.detail
    return why_not_rolled_out(VersionState(view["state"]), view["reason"], view["retired"])


def _present(hub: HubClient) -> Present:
    return Present(hub.groups(), hub.devices(), hub.rollouts())


def _take(hub: HubClient, step: Step, files: Mapping[str, Path]) -> None:
    plain: dict[Verb, Callable[..., object]] = {
        "put_group": hub.put_group,
        "label": hub.label_device,
        "edit": hub.edit_device,
        "hold": hub.hold_device,
        "release": hub.release_device,
        "pin": hub.pin_device,
        "unpin": hub.unpin_device,
    }
    body: dict[str, Any] = dict(step.body)
    if step.verb == "claim":
        files[step.name].write_text(json.dumps(hub.create_claim(step.name, **body)) + "\n")
    elif step.verb == "roll_out":
        hub.create_rollout(body.pop("model"), body.pop("version"), **body)
    elif step.verb not in ("nothing", "give_up"):
        plain[step.verb](step.name, **body)


def _show(here: Session, steps: list[Step]) -> None:
    if here.json:
        here.document([dataclasses.asdict(step) for step in steps])
        return
    for step in steps:
        here.out.print(f"{step.sign} {step.what} {step.name}: {step.text}", markup=False)
    if not steps:
        here.out.print("the fleet is as the file says")
