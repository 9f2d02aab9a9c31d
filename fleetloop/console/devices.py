"""`fleetloop devices`: see them, announce them, put them out."""

import datetime
import json
from pathlib import Path
from typing import Annotated

import typer

from fleetloop.client import Json
from fleetloop.console.session import SECOND_NS, HubCommand, pairs, session, write_secret

app = typer.Typer(help="Devices: see them, announce them, put them out.", no_args_is_help=True)

Labels = Annotated[list[str], typer.Option("--label", help="name=value; may be repeated.")]


@app.command("list", cls=HubCommand)
def list_devices(
    context: typer.Context,
    selector: Annotated[str, typer.Option(help='Such as "hall=3, @online=true"; empty: all.')] = "",
) -> None:
    """Devices, by name."""
    here = session(context)
    with here.hub() as hub:
        columns = {
            "DEVICE": lambda one: one["name"],
            "STATE": _state,
            "RUNS": _runs,
            "LABELS": lambda one: one["labels"],
            "SEEN": lambda one: moment(one["seen_ns"]),
        }
        here.table(hub.devices(selector), columns)


@app.command("show", cls=HubCommand)
def show(context: typer.Context, name: str) -> None:
    """One device with its newest documents."""
    with session(context).hub() as hub:
        session(context).document(hub.device(name))


@app.command("claim", cls=HubCommand)
def claim(
    context: typer.Context,
    names: list[str],
    directory: Annotated[Path, typer.Option(help="Where the claim files go, each NAME.json.")] = Path(),
    label: Labels = [],  # noqa: B006 - typer reads it, nobody changes it
    federated: Annotated[bool | None, typer.Option(help="May they learn together?")] = None,
    replaces: Annotated[bool, typer.Option("--replaces", help="New hardware takes the name.")] = False,
) -> None:
    """Announce devices; each gets a claim file, which is a secret and good for a day."""
    here = session(context)
    terms = {"labels": pairs(label) or None, "federated": federated, "replaces": replaces}
    given = {name: value for name, value in terms.items() if value is not None}
    written = []
    with here.hub() as hub:
        for document in hub.create_claims(names, **given):
            path = directory / f"{document['device']}.json"
            write_secret(path, json.dumps(document))
            written.append({"device": document["device"], "file": str(path)})
    here.table(written, {"DEVICE": lambda one: one["device"], "CLAIM FILE": lambda one: one["file"]})


@app.command("revoke", cls=HubCommand)
def revoke(
    context: typer.Context, name: str, reason: Annotated[str, typer.Option(help="Why; it is recorded.")]
) -> None:
    """Put a device out of the fleet; only a new claim brings it back."""
    with session(context).hub() as hub:
        session(context).say(f"{name} is out", hub.revoke_device(name, reason))


@app.command("label", cls=HubCommand)
def label_device(
    context: typer.Context,
    name: str,
    labels: Annotated[list[str], typer.Argument(help="name=value puts a label, name- drops it.")],
) -> None:
    """Put and drop labels; groups and running rollouts go by the new ones at once."""
    drop = [one[:-1] for one in labels if one.endswith("-") and "=" not in one]
    put = pairs([one for one in labels if not (one.endswith("-") and "=" not in one)])
    with session(context).hub() as hub:
        session(context).say(f"{name} is labelled", hub.label_device(name, put, drop))


@app.command("hold", cls=HubCommand)
def hold(context: typer.Context, name: str, reason: Annotated[str, typer.Option(help="Why; it is recorded.")]) -> None:
    """Keep a device as it is: no rollout takes it."""
    with session(context).hub() as hub:
        session(context).say(f"{name} is held", hub.hold_device(name, reason))


@app.command("release", cls=HubCommand)
def release(context: typer.Context, name: str) -> None:
    """Rollouts may take the device again."""
    with session(context).hub() as hub:
        session(context).say(f"{name} is released", hub.release_device(name))


def moment(at_ns: int | None) -> str:
    """A time for people, in UTC."""
    if at_ns is None:
        return "-"
    return datetime.datetime.fromtimestamp(at_ns // SECOND_NS, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


def _state(one: Json) -> str:
    if one["revoked_ns"] is not None:
        return "revoked"
    if not one["enrolled"]:
        return "claimed"
    return "online" if one["online"] else "offline"


def _runs(one: Json) -> str:
    return " ".join(f"{slot['model']}:{slot['version']}" for slot in one["slots"] if slot["model"]) or "-"
