"""`fleetloop jobs`: what the hub trains, derives and aggregates, and why it failed."""

import typer

from fleetloop.client import HubClient, Json
from fleetloop.console.looking import Course, Sight, listing, showing, watching
from fleetloop.console.plain import moment

app = typer.Typer(help="Jobs: what the hub trains and derives, and why it failed.", no_args_is_help=True)

ENDED = ("succeeded", "failed")
COLUMNS = {
    "JOB": lambda one: one["id"],
    "KIND": lambda one: one["kind"],
    "MODEL": lambda one: one["model"],
    "STATE": lambda one: one["state"],
    "ORDERED": lambda one: moment(one["created_ns"]),
    "REASON": lambda one: one["error"],
}


def _sight(view: Json) -> Sight:
    """It says how far it is in words of its own."""
    said = view["events"][-1] if view["events"] else {}
    note = " ".join(f"{name}={value}" for name, value in said.items() if isinstance(value, str | int | float))
    ended = view["state"] in ENDED
    text = f"{view['kind']} {view['model']} {view['state']}"
    return Sight(text, int(ended), 1 if ended else None, "" if ended else note)


def _verdict(view: Json) -> str:
    if view["error"] or view["version"] is None:
        return view["error"] or "done"
    return f"{view['model']}:{view['version']}, which waits for the publisher (`fleetloop signing list`)"


listing(app, HubClient.jobs, COLUMNS, "All jobs, oldest first.")
showing(app, "JOB", HubClient.job, "One job with what it said of its progress.")
watching(app, "JOB", lambda hub, job: [hub.job(job)], Course(ENDED, _sight, _verdict))
