"""`fleetloop jobs`: what the hub trains, derives and aggregates, and why it failed."""

import typer

from fleetloop.client import HubClient, Json
from fleetloop.console.exits import Exit
from fleetloop.console.following import followed
from fleetloop.console.plain import moment
from fleetloop.console.session import HubCommand, Session, session

app = typer.Typer(help="Jobs: what the hub trains and derives, and why it failed.", no_args_is_help=True)

ENDED = ("succeeded", "failed")


@app.command("list", cls=HubCommand)
def list_jobs(context: typer.Context) -> None:
    """All jobs, oldest first."""
    here = session(context)
    with here.hub() as hub:
        columns = {
            "JOB": lambda one: one["id"],
            "KIND": lambda one: one["kind"],
            "MODEL": lambda one: one["model"],
            "STATE": lambda one: one["state"],
            "ORDERED": lambda one: moment(one["created_ns"]),
            "REASON": lambda one: one["error"],
        }
        here.table(hub.jobs(), columns)


@app.command("show", cls=HubCommand)
def show(context: typer.Context, job: str) -> None:
    """One job with what it said of its progress."""
    with session(context).hub() as hub:
        session(context).show(hub.job(job))


@app.command("watch", cls=HubCommand)
def watch(context: typer.Context, job: str) -> None:
    """Follow a job to its end; exit code 0 only if it succeeded."""
    here = session(context)
    with here.hub() as hub:
        last = _follow(here, hub, job)
    here.say(f"{last['state']}: {last['error'] or _made(last)}", last)
    raise typer.Exit(Exit.DONE if last["state"] == "succeeded" else Exit.FAILED)


def _follow(here: Session, hub: HubClient, job: str) -> Json:
    view: Json = {}
    with here.out.status(job) as status:
        for view in followed(lambda: [hub.job(job)], ENDED):
            status.update(" ".join([view["kind"], view["model"], view["state"], *_progress(view)]))
    return view


def _progress(view: Json) -> list[str]:
    """What it said last, without what is a table of its own."""
    said = view["events"][-1] if view["events"] else {}
    return [f"{name}={value}" for name, value in said.items() if isinstance(value, str | int | float)]


def _made(view: Json) -> str:
    if view["version"] is None:
        return "done"
    return f"{view['model']}:{view['version']}, which waits for the publisher (`fleetloop models versions`)"
