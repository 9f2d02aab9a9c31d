"""One federated run as a process: `python -m federated.aggregator SPEC.json`.

Progress goes to stdout, one JSON object per line (`federated.core.report`). It ends with exit code 0 when the run is
done, 1 when it failed, 2 for a bad specification, and 75 when stdin closed or SIGTERM came before the end: the same
command goes on with the same step then. Files in the run directory: run.sqlite, final.safetensors, result.json.
"""

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from federated.adapters.run_store import RunStore, RunStoreError
from federated.core.report import Ended
from federated.flower.rounds import Emit
from federated.records import Arrays
from federated.running import EXIT_FAILED, Aggregator, Means, start_of
from federated.spec import MAX_SPEC_BYTES, Spec
from wire.adapters.mqtt_link import Credentials, MqttLink
from wire.adapters.system import SystemClock, SystemIds
from wire.codec import decode, encode
from wire.errors import WireError

log = logging.getLogger(__name__)

EXIT_BAD_SPEC: Final = 2


def read_spec(path: Path) -> tuple[Spec, Arrays, str]:
    """Specification, starting parameters in order, and the digest that ties the run's file to both.

    Raises:
        MalformedError, OversizeError: not a specification, or the parameters do not match it.
        OSError: a file cannot be read.
    """
    spec = decode(path.read_bytes(), Spec, limit=MAX_SPEC_BYTES)
    return spec, *start_of(spec, Path(spec.parameters).read_bytes())


def emit(event: msgspec.Struct) -> None:
    """One line of progress."""
    sys.stdout.write(encode(event).decode() + "\n")
    sys.stdout.flush()


def open_run(spec: Spec, starting: Arrays, digest: str, emit: Emit = emit) -> Aggregator:
    """The run over a real broker, with its memory and files in its directory.

    Raises:
        RunStoreError: its memory cannot be used. MalformedError: no such strategy.
    """
    directory, login = Path(spec.run_directory), spec.login
    credentials = Credentials(login.username, login.password, login.client_id, login.certificate, login.key)
    means = Means(
        link=MqttLink(spec.broker, credentials),
        clock=SystemClock(),
        ids=SystemIds(),
        store=RunStore.open(directory / "run.sqlite", digest),
        write=lambda name, data: write_durably(directory / name, data),
        emit=emit,
    )
    return Aggregator(spec, starting, means)


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file so that after any crash it is the old or the new one, whole."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def main(argv: list[str]) -> int:
    """Run the specification in `argv[0]`; returns the exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if len(argv) != 1:
        sys.stderr.write("usage: python -m federated.aggregator SPEC.json\n")
        return EXIT_BAD_SPEC
    try:
        aggregator = open_run(*read_spec(Path(argv[0])))
    except (WireError, OSError, RunStoreError) as error:
        emit(Ended(event="failed", reason=str(error)))
        return EXIT_BAD_SPEC
    try:
        return asyncio.run(_until_told(aggregator))
    except Exception as error:  # whatever a strategy raises is the run's end, with its reason
        log.exception("the run failed")
        emit(Ended(event="failed", reason=f"{type(error).__name__}: {error}"))
        return EXIT_FAILED


async def _until_told(aggregator: Aggregator) -> int:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    watch = threading.Thread(target=_watch_stdin, args=(lambda: _call(loop, stop.set),), daemon=True, name="stdin")
    watch.start()
    return await aggregator.run(stop)


def _watch_stdin(closed: Callable[[], None]) -> None:
    """The launcher holds the other end: when it dies, so do we."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    closed()


def _call(loop: asyncio.AbstractEventLoop, call: Callable[[], Any]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
