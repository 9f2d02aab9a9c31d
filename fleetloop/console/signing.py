"""`fleetloop signing`: what waits for the publisher, and what it decided. (`fleetloop publisher` is who signs.)"""

import base64
import json
from enum import StrEnum
from typing import Annotated

import typer

from fleetloop.client import Json
from fleetloop.console.plain import moment
from fleetloop.console.session import HubCommand, session

app = typer.Typer(help="Signing requests: what waits for the publisher, and what it decided.", no_args_is_help=True)

COLUMNS = {
    "REQUEST": lambda one: one["id"],
    "VERSION": lambda one: f"{one['model']}:{one['version']}",
    "STATE": lambda one: one["state"],
    "MADE": lambda one: moment(one["created_ns"]),
    "REASON": lambda one: one["reason"],
}


class State(StrEnum):
    """What became of a request."""

    PENDING = "pending"
    SIGNED = "signed"
    REFUSED = "refused"


@app.command("list", cls=HubCommand)
def list_requests(
    context: typer.Context, state: Annotated[State | None, typer.Option(help="Only those; left out: all.")] = None
) -> None:
    """Signing requests, oldest first."""
    here = session(context)
    with here.hub() as hub:
        here.table(hub.signing_requests(None if state is None else state.value), COLUMNS)


@app.command("show", cls=HubCommand)
def show(context: typer.Context, request: str) -> None:
    """One request with its gate report and the release."""
    here = session(context)
    with here.hub() as hub:
        view = hub.signing_request(request)
    here.show(view if here.json else _opened(view))


def _opened(view: Json) -> Json:
    """With the release itself instead of its bytes."""
    return {name: value for name, value in view.items() if name != "payload"} | {
        "release": json.loads(base64.b64decode(view["payload"]))
    }
