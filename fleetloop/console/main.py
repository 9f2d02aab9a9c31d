"""Puts the operator's commands together and turns every refusal into a line and an exit code."""

import sys
from collections.abc import Sequence

import click
import typer

from fleetloop.client import HubError
from fleetloop.console import (
    access,
    artefacts,
    audit,
    declare,
    devices,
    federated,
    fleet,
    groups,
    jobs,
    models,
    rollouts,
    signing,
    trust,
)
from fleetloop.console.exits import Exit, exit_of
from fleetloop.console.session import HubCommand
from wire.errors import MalformedError

app = typer.Typer(
    name="fleetloop",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=True,
    context_settings={"max_content_width": 120},
)
for _name, _noun in (
    ("devices", devices.app),
    ("groups", groups.app),
    ("fleet", fleet.app),
    ("models", models.app),
    ("jobs", jobs.app),
    ("artefacts", artefacts.app),
    ("rollouts", rollouts.app),
    ("federated", federated.app),
    ("signing", signing.app),
    ("trust", trust.app),
    ("access", access.app),
    ("audit", audit.app),
):
    app.add_typer(_noun, name=_name)
app.command("plan", cls=HubCommand)(declare.plan)
app.command("apply", cls=HubCommand)(declare.apply)
app.command("export", cls=HubCommand)(declare.export)


def run(words: Sequence[str]) -> int:
    """Run one command; its exit code (`exits.Exit`)."""
    try:
        code = app(list(words), prog_name="fleetloop", standalone_mode=False)
    except HubError as error:
        print(f"fleetloop: {error}", file=sys.stderr)
        return exit_of(error)
    except MalformedError as error:
        print(f"fleetloop: {error}", file=sys.stderr)
        return Exit.USAGE
    except click.ClickException as error:
        error.show()
        return Exit.USAGE
    except click.Abort:
        return Exit.FAILED
    return int(code or 0)
