"""`fleetloop access`: API keys. (`fleetloop keys` is the ceremony of the root keys, which sign; these open doors.)"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from fleetloop.client import HubClient
from fleetloop.console.looking import listing
from fleetloop.console.plain import moment
from fleetloop.console.secret_files import reserved
from fleetloop.console.session import HubCommand, pairs, session

app = typer.Typer(help="API keys: who may do what, where, and until when.", no_args_is_help=True)

DAY_S = 24 * 3600


class Role(StrEnum):
    """What a key may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    PUBLISHER = "publisher"
    ADMIN = "admin"


@app.command("me", cls=HubCommand)
def me(context: typer.Context) -> None:
    """The key that asks."""
    with session(context).hub() as hub:
        session(context).show(hub.me())


COLUMNS = {
    "ID": lambda one: one["id"],
    "NAME": lambda one: one["name"],
    "ROLE": lambda one: one["role"],
    "STATE": lambda one: one["state"],
    "LABELS": lambda one: one["labels"],
    "MODELS": lambda one: " ".join(one["models"]) or None,
    "EXPIRES": lambda one: moment(one["expires_ns"]),
    "USED": lambda one: moment(one["used_ns"]),
}
listing(app, HubClient.keys, COLUMNS, "All keys, those that are over among them.")


@app.command("create", cls=HubCommand)
def create(
    context: typer.Context,
    name: str,
    role: Annotated[Role, typer.Option(help="What it may do.")],
    out: Annotated[Path, typer.Option(help="New file for the key; it is never shown.")],
    label: Annotated[list[str], typer.Option(help="Only devices with this name=value; may be repeated.")] = [],  # noqa: B006
    model: Annotated[list[str], typer.Option(help="Only this model; may be repeated.")] = [],  # noqa: B006
    days: Annotated[float | None, typer.Option(help="It ends after so many days.")] = None,
) -> None:
    """Make a key and write it into a file for its owner only."""
    terms: dict[str, Any] = {"labels": pairs(label), "models": model}
    if days is not None:
        terms["expires_in_s"] = round(days * DAY_S)
    with session(context).hub() as hub, reserved([out]):
        made = hub.create_key(name, role.value, **terms)
        out.write_text(made.pop("key") + "\n")
    session(context).say(f"key {made['id']} ({name}, {role}) is in {out}", made | {"file": str(out)})


@app.command("revoke", cls=HubCommand)
def revoke(context: typer.Context, key: str) -> None:
    """End the key with this id at once."""
    with session(context).hub() as hub:
        session(context).say(f"key {key} is revoked", hub.revoke_key(key))
