"""`fleetloop rollouts`: start, steer and watch them."""

import itertools
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from fleetloop.client import HubClient, Json, RolloutCommand
from fleetloop.console.exits import Exit
from fleetloop.console.following import followed
from fleetloop.console.plain import moment
from fleetloop.console.session import HubCommand, Session, pairs, session
from wire.errors import MalformedError

app = typer.Typer(help="Rollouts: start, steer and watch them.", no_args_is_help=True)

ENDED = ("succeeded", "halted", "aborted")


@app.command("list", cls=HubCommand)
def list_rollouts(context: typer.Context) -> None:
    """All rollouts."""
    here = session(context)
    with here.hub() as hub:
        columns = {
            "ROLLOUT": lambda one: one["id"],
            "RELEASE": lambda one: f"{one['model']}:{one['version']}",
            "STATE": lambda one: one["state"],
            "WAVE": lambda one: f"{one['wave'] + 1}/{len(one['waves'])}",
            "COMMITTED": lambda one: f"{one['committed']}/{one['planned']}",
            "FAILED": lambda one: one["failed"],
            "STARTED": lambda one: moment(one["created_ns"]),
            "REASON": lambda one: one["reason"],
        }
        here.table(hub.rollouts(), columns)


@app.command("show", cls=HubCommand)
def show(context: typer.Context, rollout: str) -> None:
    """One rollout with the evidence of its gates."""
    with session(context).hub() as hub:
        session(context).show(hub.rollout(rollout))


@app.command("members", cls=HubCommand)
def members(context: typer.Context, rollout: str) -> None:
    """Its devices and how each of them is doing."""
    here = session(context)
    with here.hub() as hub:
        columns = {
            "DEVICE": lambda one: one["device"],
            "WAVE": lambda one: one["wave"] + 1,
            "STATUS": lambda one: one["status"],
            "OUTCOME": lambda one: one["outcome"],
            "REASON": lambda one: one["reason"],
        }
        here.table(hub.rollout_members(rollout), columns)


@app.command("start", cls=HubCommand)
def start(
    context: typer.Context,
    model: str,
    version: int,
    wave: Annotated[list[str], typer.Option(help="A number of devices, or a share such as 25%; may be repeated.")],
    select: Annotated[list[str], typer.Option(help="label=value (or @group=NAME) of devices; may be repeated.")] = [],  # noqa: B006
    gate: Annotated[list[str], typer.Option(help='Such as "commit_rate >= 99 %"; may be repeated.')] = [],  # noqa: B006
    slot: str = "main",
) -> None:
    """Start a rollout. Rates, windows, retries, soaking and approval are said in a fleet file (`fleetloop apply`)."""
    options: dict[str, Any] = {"selector": pairs(select), "slot": slot} | ({"gates": gate} if gate else {})
    with session(context).hub() as hub:
        made = hub.create_rollout(model, version, waves=[_wave(one) for one in wave], **options)
        session(context).say(f"rollout {made['id']} reaches {made['planned']} devices", made)


@app.command("watch", cls=HubCommand)
def watch(context: typer.Context, rollout: str) -> None:
    """Follow a rollout to its end; exit code 0 only if it succeeded. With --json: one line for each change."""
    here = session(context)
    with here.hub() as hub:
        last = _follow_json(here, hub, rollout) if here.json else _follow(here, hub, rollout)
    raise typer.Exit(Exit.DONE if last["state"] == "succeeded" else Exit.FAILED)


def _steering(command: RolloutCommand, text: str) -> None:
    def steer(context: typer.Context, rollout: str) -> None:
        with session(context).hub() as hub:
            view = hub.command_rollout(rollout, command)
            session(context).say(f"rollout {rollout} is {view['state']}", view)

    app.command(command, cls=HubCommand, help=text)(steer)


_steering("pause", "No more devices are told until it is resumed.")
_steering("approve", "Let the next wave begin.")
_steering("resume", "Go on; failures seen so far, and only those, are acknowledged.")
_steering("abort", "End it; devices keep what they have.")
_steering("revert", "End it; devices get back what they ran before.")


def _follow_json(here: Session, hub: HubClient, rollout: str) -> Json:
    view: Json = {}
    for view in followed(lambda: hub.rollout_states(rollout), ENDED):
        print(here.line(view), flush=True)
    return view


def _follow(here: Session, hub: HubClient, rollout: str) -> Json:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
    views = followed(lambda: hub.rollout_states(rollout), ENDED)
    first = next(views)  # a rollout that is not there is refused before anything is drawn
    with Progress(*columns, console=here.out) as progress:
        bar = progress.add_task(rollout, total=None, note="")
        for view in itertools.chain([first], views):
            text = f"{view['model']}:{view['version']} wave {view['wave'] + 1}/{len(view['waves'])} {view['state']}"
            note = f"{view['failed']} failed" if view["failed"] else ""
            progress.update(bar, description=text, total=view["planned"], completed=view["committed"], note=note)
    here.out.print(f"{view['state']}: {view['reason'] or 'all gates passed'}", markup=False)
    return view


def _wave(text: str) -> dict[str, float]:
    try:
        return {"percent": float(text[:-1])} if text.endswith("%") else {"count": int(text)}
    except ValueError as error:
        raise MalformedError(f"wave {text!r}: a number of devices, or a share such as 25%") from error
