"""`fleetloop fleet`: who is there, and the halt that keeps everybody as they are."""

from typing import Annotated

import typer

from fleetloop.console.session import HubCommand, session

app = typer.Typer(help="The fleet as a whole: who is there, and its halt.", no_args_is_help=True)


@app.command("show", cls=HubCommand)
def show(context: typer.Context) -> None:
    """Is it halted, who is there, and which agents does it run?"""
    with session(context).hub() as hub:
        session(context).show(hub.fleet())


@app.command("halt", cls=HubCommand)
def halt(context: typer.Context, reason: Annotated[str, typer.Option(help="Why; it is recorded.")]) -> None:
    """Assign nobody anything. It holds for every rollout, until the fleet is resumed."""
    with session(context).hub() as hub:
        session(context).say("the fleet is halted", hub.halt_fleet(reason))


@app.command("resume", cls=HubCommand)
def resume(context: typer.Context) -> None:
    """Rollouts go on where they stopped."""
    with session(context).hub() as hub:
        session(context).say("the fleet goes on", hub.resume_fleet())
