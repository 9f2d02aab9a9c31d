"""`fleetloop models`: models, their versions, and training the next one."""

from typing import Annotated

import typer

from fleetloop.client import HubClient
from fleetloop.console.looking import listing
from fleetloop.console.plain import moment
from fleetloop.console.session import HubCommand, session

app = typer.Typer(help="Models and their versions.", no_args_is_help=True)


COLUMNS = {
    "MODEL": lambda one: one["name"],
    "WORKLOAD": lambda one: one["workload"],
    "LAST VERSION": lambda one: one["last_version"],
}
listing(app, HubClient.models, COLUMNS, "All models.")


@app.command("versions", cls=HubCommand)
def versions(context: typer.Context, model: str) -> None:
    """All versions of a model."""
    here = session(context)
    with here.hub() as hub:
        columns = {
            "VERSION": lambda one: one["version"],
            "STATE": lambda one: one["state"],
            "VARIANT": lambda one: one["chosen"],
            "PARENT": lambda one: one["parent_version"],
            "MADE": lambda one: moment(one["created_ns"]),
            "REASON": lambda one: one["reason"],
        }
        here.table(hub.versions(model), columns)


@app.command("show", cls=HubCommand)
def show(context: typer.Context, model: str, version: int) -> None:
    """One version with its release and model card."""
    with session(context).hub() as hub:
        session(context).show(hub.version(model, version))


@app.command("promote", cls=HubCommand)
def promote(
    context: typer.Context,
    model: str,
    version: int,
    override: Annotated[str, typer.Option(help="Why, although its rule is not met; it is recorded.")] = "",
) -> None:
    """Put a version into production. The one that was there is released again."""
    with session(context).hub() as hub:
        session(context).say(f"{model}:{version} is in production", hub.promote(model, version, override))


@app.command("retire", cls=HubCommand)
def retire(
    context: typer.Context, model: str, version: int, reason: Annotated[str, typer.Option(help="Why; it is recorded.")]
) -> None:
    """Nobody rolls it out any more. Devices that run it keep it."""
    with session(context).hub() as hub:
        session(context).say(f"{model}:{version} is retired", hub.retire(model, version, reason))


@app.command("train", cls=HubCommand)
def train(
    context: typer.Context,
    model: str,
    workload: Annotated[str, typer.Option(help="A registered name, or module:attribute.")],
    seed: int = 0,
) -> None:
    """Have the hub train the next version; `fleetloop jobs watch` tells how it goes."""
    with session(context).hub() as hub:
        job = hub.create_job(model, workload=workload, seed=seed)
        session(context).say(f"job {job['id']} trains {model}; follow it with `fleetloop jobs watch`", job)
