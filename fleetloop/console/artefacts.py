"""`fleetloop artefacts`: model files, by their digests."""

from pathlib import Path
from typing import Annotated

import typer

from fleetloop.client import HubClient
from fleetloop.console.looking import listing, showing
from fleetloop.console.plain import moment
from fleetloop.console.session import HubCommand, session
from wire.errors import MalformedError

app = typer.Typer(help="Model files: upload, see and download them.", no_args_is_help=True)


COLUMNS = {
    "SHA-256": lambda one: one["sha256"],
    "KIND": lambda one: one["kind"],
    "BYTES": lambda one: one["bytes"],
    "BY": lambda one: one["uploaded_by"],
    "UPLOADED": lambda one: moment(one["created_ns"]),
}
listing(app, HubClient.artefacts, COLUMNS, "Uploaded files.")


showing(app, "SHA256", HubClient.artefact, "What an uploaded file is.")


@app.command("upload", cls=HubCommand)
def upload(context: typer.Context, files: list[Path]) -> None:
    """Upload ONNX, TFLite or safetensors files. Those that are there already are not sent again."""
    here, made = session(context), []
    with here.hub() as hub:
        for file in files:
            try:
                made.append(hub.upload_artefact(file) | {"file": str(file)})
            except OSError as error:
                raise MalformedError(f"{file}: {error.strerror}") from error
    here.table(made, {"FILE": lambda one: one["file"], "SHA-256": lambda one: one["sha256"]})


@app.command("download", cls=HubCommand)
def download(
    context: typer.Context,
    sha256: str,
    out: Annotated[Path | None, typer.Option(help="The file to write (default: its digest).")] = None,
) -> None:
    """Download an object of the registry. Broken off, the same command goes on where it was."""
    to = out or Path(sha256)
    if to.exists():
        raise MalformedError(f"{to}: is there already")
    with session(context).hub() as hub:
        try:
            hub.download_artefact(sha256, to)
        except OSError as error:
            raise MalformedError(f"{to}: {error.strerror}") from error
    session(context).say(f"{to} has {to.stat().st_size} bytes", {"sha256": sha256, "file": str(to)})
