"""`fleetloop devices`: see them, announce them, decide about them."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fleetloop.client import HubClient, Json
from fleetloop.console.looking import showing
from fleetloop.console.plain import moment, readable
from fleetloop.console.secret_files import reserved
from fleetloop.console.session import HubCommand, pairs, session

app = typer.Typer(help="Devices: see them, announce them, decide about them.", no_args_is_help=True)

Slot = Annotated[str, typer.Option(help="The slot of the device.")]
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


showing(app, "NAME", HubClient.device, "One device with its newest documents.")
TWIN = "What a device shall run, and what it runs. With its holds and pins, and the age of its agent."
showing(app, "NAME", HubClient.device_twin, TWIN, "twin")


@app.command("claim", cls=HubCommand)
def claim(
    context: typer.Context,
    names: list[str],
    directory: Annotated[Path, typer.Option(help="Where the claim files go, each NAME.json.")] = Path(),
    label: Labels = [],  # noqa: B006 - typer reads it, nobody changes it
    federated: Annotated[bool | None, typer.Option(help="May they learn together?")] = None,
    replaces: Annotated[bool, typer.Option("--replaces", help="New hardware takes the name.")] = False,
) -> None:
    """Announce devices. Each gets a claim file, which is a secret and good for a day."""
    here = session(context)
    terms = {"labels": pairs(label) or None, "federated": federated, "replaces": replaces}
    given = {name: value for name, value in terms.items() if value is not None}
    files = {name: directory / f"{name}.json" for name in names}
    with here.hub() as hub, reserved(list(files.values())):
        for document in hub.create_claims(names, **given):
            files[document["device"]].write_text(json.dumps(document) + "\n")
    written = [{"device": name, "file": str(path)} for name, path in files.items()]
    here.table(written, {"DEVICE": lambda one: one["device"], "CLAIM FILE": lambda one: one["file"]})


@app.command("revoke", cls=HubCommand)
def revoke(
    context: typer.Context, name: str, reason: Annotated[str, typer.Option(help="Why; it is recorded.")]
) -> None:
    """Put a device out of the fleet. Only a new claim brings it back."""
    with session(context).hub() as hub:
        session(context).say(f"{name} is out", hub.revoke_device(name, reason))


@app.command("label", cls=HubCommand)
def label_device(
    context: typer.Context,
    name: str,
    labels: Annotated[list[str], typer.Argument(help="name=value puts a label, name- drops it.")],
) -> None:
    """Put and drop labels. Groups and running rollouts go by the new ones at once."""
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


@app.command("pin", cls=HubCommand)
def pin(
    context: typer.Context,
    name: str,
    model: str,
    version: int,
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")],
    slot: Slot = "main",
) -> None:
    """Keep a slot at one version. Rollouts of another one leave it alone; it installs nothing."""
    with session(context).hub() as hub:
        twin = hub.pin_device(name, (model, version), reason, slot)
        session(context).say(f"{name} keeps {slot} at {model}:{version}", twin)


@app.command("unpin", cls=HubCommand)
def unpin(context: typer.Context, name: str, slot: Slot = "main") -> None:
    """Any version may take the slot again."""
    with session(context).hub() as hub:
        session(context).say(f"{name} may run any version in {slot}", hub.unpin_device(name, slot))


@app.command("edit", cls=HubCommand)
def edit(
    context: typer.Context, name: str, federated: Annotated[bool, typer.Option(help="May it learn with others?")]
) -> None:
    """Change what its claim said of a device."""
    with session(context).hub() as hub:
        session(context).say(f"{name} is changed", hub.edit_device(name, federated=federated))


@app.command("history", cls=HubCommand)
def history(
    context: typer.Context, name: str, limit: Annotated[int, typer.Option(help="At most so many events.")] = 100
) -> None:
    """What happened to a device, newest first."""
    here = session(context)
    with here.hub() as hub:
        columns = {
            "WHEN": lambda one: moment(one["at_ns"]),
            "EVENT": lambda one: one["event"],
            "BY": lambda one: one["actor"] or None,
            "DETAIL": lambda one: json.dumps(readable(one["detail"]), ensure_ascii=False),
        }
        here.table(hub.device_history(name, limit), columns)


@app.command("decommission", cls=HubCommand)
def decommission(
    context: typer.Context, name: str, reason: Annotated[str, typer.Option(help="Why; it is recorded.")]
) -> None:
    """Take a device out for good. Its history stays, and only a claim that replaces it gives its name away."""
    with session(context).hub() as hub:
        session(context).say(f"{name} is decommissioned", hub.decommission_device(name, reason))


def _state(one: Json) -> str:
    if one["revoked_ns"] is not None:
        return "revoked"
    if not one["enrolled"]:
        return "claimed"
    if one["held_reason"]:
        return "held"
    return "online" if one["online"] else "offline"


def _runs(one: Json) -> str:
    return " ".join(f"{slot['model']}:{slot['version']}" for slot in one["slots"] if slot["model"]) or "-"
