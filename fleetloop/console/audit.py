"""`fleetloop audit`: who changed what."""

import datetime
import json
from typing import Annotated

import typer

from fleetloop.console.plain import SECOND_NS, moment, readable
from fleetloop.console.session import HubCommand, session

app = typer.Typer(help="Who changed what, when and how.", no_args_is_help=True)

When = Annotated[datetime.datetime | None, typer.Option(help="In UTC.")]


@app.command("list", cls=HubCommand)
def list_changes(
    context: typer.Context,
    actor: Annotated[str | None, typer.Option(help="Name of a key, hub, or device:NAME.")] = None,
    action: Annotated[str | None, typer.Option(help="Such as rollout.pause, or rollout. for all of the noun.")] = None,
    subject: Annotated[str | None, typer.Option(help="What was changed.")] = None,
    request: Annotated[str | None, typer.Option(help="Id of the API request.")] = None,
    since: When = None,
    until: When = None,
) -> None:
    """Changes, oldest first. With --json: one object a line, as they come."""
    here = session(context)
    filters: dict[str, str | int | None] = {"actor": actor, "action": action, "subject": subject, "request": request}
    filters |= {"since_ns": _ns(since), "until_ns": _ns(until)}
    with here.hub() as hub:
        changes = hub.audit(**{name: value for name, value in filters.items() if value is not None})
        if here.json:
            for change in changes:
                print(here.line(change))
            return
        columns = {
            "WHEN": lambda one: moment(one["at_ns"]),
            "ACTOR": lambda one: one["actor"],
            "ACTION": lambda one: one["action"],
            "SUBJECT": lambda one: one["subject"],
            "BECAME": lambda one: json.dumps(readable(one["after"] if one["after"] is not None else one["detail"])),
        }
        here.table(list(changes), columns)


def _ns(moment: datetime.datetime | None) -> int | None:
    return None if moment is None else int(moment.replace(tzinfo=datetime.UTC).timestamp()) * SECOND_NS
