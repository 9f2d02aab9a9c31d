"""`fleetloop rollouts`: start, steer and watch them."""

from typing import Annotated, Any

import typer

from fleetloop.client import HubClient, Json, RolloutCommand
from fleetloop.console.looking import Course, Sight, listing, showing, watching
from fleetloop.console.plain import moment
from fleetloop.console.session import HubCommand, pairs, session
from wire.errors import MalformedError

app = typer.Typer(help="Rollouts: start, steer and watch them.", no_args_is_help=True)

ENDED = ("succeeded", "halted", "aborted")
COLUMNS = {
    "ROLLOUT": lambda one: one["id"],
    "RELEASE": lambda one: f"{one['model']}:{one['version']}",
    "STATE": lambda one: one["state"],
    "WAVE": lambda one: f"{one['wave'] + 1}/{len(one['waves'])}",
    "COMMITTED": lambda one: f"{one['committed']}/{one['planned']}",
    "FAILED": lambda one: one["failed"],
    "STARTED": lambda one: moment(one["created_ns"]),
    "REASON": lambda one: one["reason"],
}
MEMBERS = {
    "DEVICE": lambda one: one["device"],
    "WAVE": lambda one: one["wave"] + 1,
    "STATUS": lambda one: one["status"],
    "OUTCOME": lambda one: one["outcome"],
    "REASON": lambda one: one["reason"],
}


listing(app, HubClient.rollouts, COLUMNS, "All rollouts, oldest first.")
showing(app, "ROLLOUT", HubClient.rollout, "One rollout with the evidence of its gates.")


@app.command("members", cls=HubCommand)
def members(context: typer.Context, rollout: str) -> None:
    """Its devices and how each of them is doing."""
    here = session(context)
    with here.hub() as hub:
        here.table(hub.rollout_members(rollout), MEMBERS)


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


def _sight(view: Json) -> Sight:
    text = f"{view['model']}:{view['version']} wave {view['wave'] + 1}/{len(view['waves'])} {view['state']}"
    failed = f", {view['failed']} failed" if view["failed"] else ""
    return Sight(text, view["committed"], view["planned"], f"{view['committed']}/{view['planned']}{failed}")


def _verdict(view: Json) -> str:
    return view["reason"] or "all gates passed"


watching(app, "ROLLOUT", HubClient.rollout_states, Course(ENDED, _sight, _verdict))


def _wave(text: str) -> dict[str, float]:
    try:
        return {"percent": float(text[:-1])} if text.endswith("%") else {"count": int(text)}
    except ValueError as error:
        raise MalformedError(f"wave {text!r}: a number of devices, or a share such as 25%") from error
