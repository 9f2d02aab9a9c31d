"""`fleetloop groups`: a selector under a name."""

from typing import Annotated

import typer

from fleetloop.client import HubClient
from fleetloop.console.looking import listing
from fleetloop.console.session import HubCommand, session

app = typer.Typer(help="Groups: selectors under a name, evaluated live.", no_args_is_help=True)


COLUMNS = {
    "GROUP": lambda one: one["name"],
    "DEVICES": lambda one: one["devices"],
    "SELECTOR": lambda one: one["selector"],
    "DESCRIPTION": lambda one: one["description"],
}
listing(app, HubClient.groups, COLUMNS, "All groups.")


@app.command("devices", cls=HubCommand)
def devices(context: typer.Context, name: str) -> None:
    """Devices that belong to a group now."""
    here = session(context)
    with here.hub() as hub:
        columns = {"DEVICE": lambda one: one["name"], "LABELS": lambda one: one["labels"]}
        here.table(hub.group_devices(name), columns)


@app.command("set", cls=HubCommand)
def put(
    context: typer.Context,
    name: str,
    selector: Annotated[str, typer.Argument(help='Such as "hall=3, role in (learner, tester), !broken".')],
    description: Annotated[str | None, typer.Option(help="Left out: as it is.")] = None,
) -> None:
    """Make a group, or give it another selector."""
    with session(context).hub() as hub:
        made = hub.put_group(name, selector, description)
        session(context).say(f"group {name} has {made['devices']} devices", made)


@app.command("remove", cls=HubCommand)
def remove(context: typer.Context, name: str) -> None:
    """Forget a group. Its devices stay as they are."""
    with session(context).hub() as hub:
        hub.remove_group(name)
        session(context).say(f"group {name} is gone", {"name": name})
