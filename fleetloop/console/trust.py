"""`fleetloop trust`: what devices can trust today, and until when. (`fleetloop keys` makes and rotates the roots.)"""

import typer

from fleetloop.console.plain import moment
from fleetloop.console.session import HubCommand, session

app = typer.Typer(help="Trust: which metadata stands, until when, and under which keys.", no_args_is_help=True)

COLUMNS = {
    "ROLE": lambda one: one["role"],
    "VERSION": lambda one: one["version"],
    "EXPIRES": lambda one: moment(one["expires_ns"]),
}


@app.command("show", cls=HubCommand)
def show(context: typer.Context) -> None:
    """The newest metadata of every role. With the keys that may sign, and the keys that this hub holds."""
    here = session(context)
    with here.hub() as hub:
        view = hub.trust()
    roles = view.pop("roles") if not here.json else {}
    here.show(view)
    if not here.json:
        here.table([{"role": role, **newest} for role, newest in roles.items()], COLUMNS)
