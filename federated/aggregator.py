"""One federated run as a process: `python -m federated.aggregator SPEC.json`.

Progress goes to stdout, one JSON object per line (`federated.core.report`). It ends with exit code 0 when the run is
done, 1 when it failed, 2 for a bad specification, and 75 when stdin closed or SIGTERM came before the end: the same
command goes on with the same step then. Files in the run directory: run.sqlite, final.safetensors, result.json.
"""

import asyncio
import hashlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import numpy as np

from federated.adapters.exchange import Exchange
from federated.adapters.run_store import RunStore, RunStoreError
from federated.core.collection import Collection, Pace
from federated.core.issue import RunLabel
from federated.core.node_ids import NodeTable
from federated.core.replies import Limits
from federated.core.report import DeviceResult, Ended, Result, Started, Totals
from federated.core.rounds import Phase, Position
from federated.flower.grid import MqttGrid
from federated.flower.orders import Packer
from federated.flower.rounds import Crew, DurableRun
from federated.flower.strategies import make_strategy
from federated.records import Arrays, load_arrays, save_arrays
from federated.spec import MAX_SPEC_BYTES, Login, Spec
from wire.adapters.mqtt_link import Credentials, MqttLink
from wire.adapters.system import SystemClock, SystemIds
from wire.codec import decode, encode
from wire.errors import MalformedError, WireError
from wire.identity import Broker
from wire.ports import SECOND
from wire.topics import Topics

log = logging.getLogger(__name__)

T = TypeVar("T")

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_BAD_SPEC: Final = 2
EXIT_STOPPED: Final = 75
FINAL: Final = "final.safetensors"
RESULT: Final = "result.json"


def read_spec(path: Path) -> tuple[Spec, Arrays, str]:
    """Specification, starting parameters in order, and the digest that ties the run's file to both.

    Raises:
        MalformedError, OversizeError: not a specification, or the parameters do not match it.
        OSError: a file cannot be read.
    """
    raw = path.read_bytes()
    spec = decode(raw, Spec, limit=MAX_SPEC_BYTES)
    data = Path(spec.parameters).read_bytes()
    arrays = load_arrays(data)
    if set(arrays) != set(spec.order):
        raise MalformedError(f"{spec.parameters} does not hold exactly the parameters that `order` names")
    nowhere = Broker(host="-", port=1)  # a restarted hub may have moved its broker, its password and its files
    lasting = msgspec.structs.replace(spec, login=Login(), broker=nowhere, parameters="", run_directory="")
    digest = hashlib.sha256(encode(lasting) + data).hexdigest()
    return spec, {name: arrays[name] for name in spec.order}, digest


def emit(event: msgspec.Struct) -> None:
    """One line of progress."""
    sys.stdout.write(encode(event).decode() + "\n")
    sys.stdout.flush()


class Aggregator:
    """Everything of one run, wired together."""

    def __init__(
        self, spec: Spec, starting: Arrays, digest: str, emit: Callable[[msgspec.Struct], None] = emit
    ) -> None:
        self._emit = emit
        self._spec = spec
        self._starting = starting
        self._strategy = make_strategy(spec)
        self._directory = Path(spec.run_directory)
        self._store = RunStore(self._directory / "run.sqlite", digest)
        self._dtypes = {name: array.dtype for name, array in starting.items()}

    async def run(self, stop: asyncio.Event) -> int:
        """Work until the run has ended or `stop` is set; returns the exit code."""
        exchange, run, grid = self._wire()
        resumed = self._store.learned() is not None
        spec = self._spec
        self._emit(Started(run=spec.run, strategy=spec.strategy, devices=len(spec.devices), resumed=resumed))
        await exchange.open(device.name for device in spec.devices)
        code = EXIT_STOPPED
        try:
            position = await _unless(stop, run.run(self._starting))
            if position is not None:
                code = self._finish(position, run.arrays)
        finally:
            grid.stop()
            await exchange.close(clear=code != EXIT_STOPPED)
            self._store.close()
        return code

    def _wire(self) -> tuple[Exchange, DurableRun, MqttGrid]:
        spec, clock = self._spec, SystemClock()
        label = RunLabel(spec.run, spec.model, spec.version)
        nodes = NodeTable(device.name for device in spec.devices)
        login = spec.login
        credentials = Credentials(login.username, login.password, login.client_id, login.certificate, login.key)
        link = MqttLink(spec.broker, credentials)
        collection = Collection(spec.run, _limits(spec), _pace(spec))
        collection.remember(self._store.answers().values())
        exchange = Exchange(link, Topics(spec.topic_root), clock, collection, self._store, self._store.keep)
        grid = MqttGrid(asyncio.get_running_loop(), exchange, label, nodes, self._dtypes, (clock, SystemIds()))
        packer = Packer(label, nodes, self._dtypes)
        crew = Crew(exchange, self._store, grid, packer, nodes, clock)
        return exchange, DurableRun(spec, self._strategy, crew, self._emit), grid

    def _finish(self, position: Position, arrays: Arrays) -> int:
        if position.phase is Phase.FAILED:
            reason = f"too few answers in round {position.round} after {position.attempt} attempts"
            self._emit(Ended(event="failed", rounds=position.round, reason=reason))
            return EXIT_FAILED
        final = {name: array.astype(self._dtypes[name]) for name, array in arrays.items()}
        if not all(np.isfinite(array).all() for array in final.values()):
            self._emit(Ended(event="failed", rounds=position.round, reason="the final parameters hold NaN or infinity"))
            return EXIT_FAILED
        write_durably(self._directory / FINAL, save_arrays(final))
        write_durably(self._directory / RESULT, encode(self._result(position)))
        self._emit(Ended(event="done", rounds=position.round))
        return EXIT_DONE

    def _result(self, position: Position) -> Result:
        spec, history = self._spec, tuple(self._store.reports().values())
        totals = Totals(
            bytes_down=sum(one.bytes_down for one in history),
            bytes_up=sum(one.bytes_up for one in history),
            seconds=sum(one.seconds for one in history),
            failures=sum(len(one.failures) for one in history),
        )
        return Result(
            run=spec.run,
            model=spec.model,
            version=spec.version,
            strategy=spec.strategy,
            rounds=position.round,
            parameters=FINAL,
            devices=self._device_results(),
            totals=totals,
            history=history,
        )

    def _device_results(self) -> dict[str, DeviceResult]:
        before, after = self._store.measured(Phase.BEFORE), self._store.measured(Phase.AFTER)
        trained = self._store.updates_by_device()
        results = {}
        for device in self._spec.devices:
            first, last = before.get(device.name), after.get(device.name)
            results[device.name] = DeviceResult(
                labels=device.labels,
                examples=0 if last is None else last.examples,
                accuracy_before=None if first is None else first.accuracy,
                accuracy_after=None if last is None else last.accuracy,
                rounds_trained=trained.get(device.name, 0),
            )
        return results


async def _unless(stop: asyncio.Event, work: Coroutine[object, object, T]) -> T | None:
    """What `work` returns, or None when `stop` was set first; `work` is cancelled then."""
    working = asyncio.create_task(work, name="federated-run")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if working.done():
        stopping.cancel()
        return working.result()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    return None


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
        aggregator = Aggregator(*read_spec(Path(argv[0])))
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


def _limits(spec: Spec) -> Limits:
    return Limits(spec.tolerances.max_examples, spec.tolerances.max_update_ratio)


def _pace(spec: Spec) -> Pace:
    tolerances = spec.tolerances
    return Pace(resend_ns=int(tolerances.resend_s * SECOND), offline_grace_ns=int(tolerances.offline_grace_s * SECOND))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
