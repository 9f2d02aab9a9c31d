"""`fleetloop federated`: runs in which devices learn together, without their data."""

from typing import Annotated

import msgspec
import typer

from fleetloop.client import HubClient, Json
from fleetloop.console.looking import Course, Sight, listing, showing, watching
from fleetloop.console.plain import moment
from fleetloop.console.session import HubCommand, pairs, session

app = typer.Typer(help="Federated runs: devices learn together, their data stays where it is.", no_args_is_help=True)

ENDED = ("succeeded", "refused", "failed")
COLUMNS = {
    "RUN": lambda one: one["id"],
    "FROM": lambda one: f"{one['model']}:{one['version']}",
    "STATE": lambda one: one["state"],
    "ROUNDS": lambda one: f"{len(one['rounds'])}/{one['rounds_planned']}",
    "DEVICES": lambda one: len(one["devices"]),
    "MADE": lambda one: one["result_version"],
    "STARTED": lambda one: moment(one["created_ns"]),
    "REASON": lambda one: one["reason"],
}


listing(app, HubClient.federated_runs, COLUMNS, "All federated runs, oldest first.")
showing(app, "RUN", HubClient.federated_run, "One run with its rounds and its verdict.")


@app.command("start", cls=HubCommand)
def start(
    context: typer.Context,
    model: str,
    version: int,
    select: Annotated[list[str], typer.Option(help="label=value (or @group=NAME) of devices; may be repeated.")] = [],  # noqa: B006
    rounds: Annotated[int | None, typer.Option(help="Rounds in all.")] = None,
    strategy: Annotated[str | None, typer.Option(help="A strategy of Flower, such as FedAvgM.")] = None,
    argument: Annotated[list[str], typer.Option(help="name=value for the strategy; may be repeated.")] = [],  # noqa: B006
    train: Annotated[list[str], typer.Option(help="local-epochs, lr or momentum=value; may be repeated.")] = [],  # noqa: B006
) -> None:
    """Let devices learn from a released version on. What is left out is as POST /federated-runs says, which also takes
    a group that must not become worse, tolerances and a seed."""
    said = {"rounds": rounds, "strategy": strategy}
    options = {name: value for name, value in said.items() if value is not None}
    terms = {"selector": pairs(select), "strategy_args": _scalars(argument), "train": _scalars(train)}
    with session(context).hub() as hub:
        made = hub.create_federated_run(model, version=version, **terms, **options)
        session(context).say(f"federated run {made['id']} begins with {len(made['devices'])} devices", made)


@app.command("stop", cls=HubCommand)
def stop(context: typer.Context, run: str) -> None:
    """End a run in which devices still learn. Nothing of what they learned is kept."""
    with session(context).hub() as hub:
        session(context).say(f"federated run {run} is being stopped", hub.stop_federated_run(run))


def _scalars(texts: list[str]) -> dict[str, bool | int | float | str]:
    """Numbers and truth values as such; anything else is a word."""
    return {name: _scalar(text) for name, text in pairs(texts).items()}


def _scalar(text: str) -> bool | int | float | str:
    try:
        return msgspec.json.decode(text, type=bool | int | float)
    except msgspec.DecodeError:
        return text


def _sight(view: Json) -> Sight:
    rounds = view["rounds"]
    note = f"{len(rounds)}/{view['rounds_planned']} rounds"
    if rounds and rounds[-1]["eval_acc"] is not None:
        note += f", accuracy {rounds[-1]['eval_acc']:.3f}"
    return Sight(f"{view['model']}:{view['version']} {view['state']}", len(rounds), view["rounds_planned"], note)


def _verdict(view: Json) -> str:
    if view["reason"] or view["result_version"] is None:
        return view["reason"] or "done"
    return f"{view['model']}:{view['result_version']}, which waits for the publisher (`fleetloop signing list`)"


watching(app, "RUN", lambda hub, run: [hub.federated_run(run)], Course(ENDED, _sight, _verdict))
