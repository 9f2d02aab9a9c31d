"""One federated run over any link, clock and memory: wired together, and brought to its end.

What a process adds (arguments, signals, files, a real broker) is in `federated.aggregator`; the simulator plays the
same run in virtual time.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec
import numpy as np

from federated.adapters.exchange import Exchange
from federated.adapters.run_store import RunStore
from federated.core.collection import Collection, Pace
from federated.core.issue import RunLabel
from federated.core.node_ids import NodeTable
from federated.core.replies import Limits
from federated.core.report import DeviceResult, Ended, Result, Started, Totals
from federated.core.rounds import Phase, Position
from federated.flower.grid import MqttGrid
from federated.flower.orders import Packer
from federated.flower.rounds import Crew, DurableRun, Emit
from federated.flower.strategies import make_strategy
from federated.records import Arrays, load_arrays, save_arrays
from federated.spec import Login, Spec
from wire.codec import encode
from wire.errors import MalformedError
from wire.identity import Broker
from wire.ports import SECOND, Clock, Ids, Link
from wire.topics import Topics

T = TypeVar("T")

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_STOPPED: Final = 75
FINAL: Final = "final.safetensors"
RESULT: Final = "result.json"


@dataclass(frozen=True, slots=True)
class Means:
    """What a run works with. `write` keeps a file of the run durably; `emit` hears of its progress."""

    link: Link
    clock: Clock
    ids: Ids
    store: RunStore
    write: Callable[[str, bytes], None]
    emit: Emit
    grid: type[MqttGrid] = MqttGrid


def start_of(spec: Spec, data: bytes) -> tuple[Arrays, str]:
    """The starting parameters in order, from their file, and the digest that ties the run's memory to both.

    Raises:
        MalformedError: the parameters do not match the specification.
    """
    arrays = load_arrays(data)
    if set(arrays) != set(spec.order):
        raise MalformedError(f"{spec.parameters} does not hold exactly the parameters that `order` names")
    nowhere = Broker(host="-", port=1)  # a restarted hub may have moved its broker, its password and its files
    lasting = msgspec.structs.replace(spec, login=Login(), broker=nowhere, parameters="", run_directory="")
    digest = hashlib.sha256(encode(lasting) + data).hexdigest()
    return {name: arrays[name] for name in spec.order}, digest


class Aggregator:
    """Everything of one run, wired together."""

    def __init__(self, spec: Spec, starting: Arrays, means: Means) -> None:
        """Raises MalformedError: Flower has no such strategy, or it does not take these arguments."""
        self._spec = spec
        self._starting = starting
        self._means = means
        self._store = means.store
        self._strategy = make_strategy(spec)
        self._dtypes = {name: array.dtype for name, array in starting.items()}

    async def run(self, stop: asyncio.Event) -> int:
        """Work until the run has ended or `stop` is set; returns the exit code."""
        exchange, run, grid = self._wire()
        resumed = self._store.learned() is not None
        spec = self._spec
        self._means.emit(Started(run=spec.run, strategy=spec.strategy, devices=len(spec.devices), resumed=resumed))
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
        spec, means = self._spec, self._means
        label = RunLabel(spec.run, spec.model, spec.version)
        nodes = NodeTable(device.name for device in spec.devices)
        collection = Collection(spec.run, _limits(spec), _pace(spec))
        collection.remember(self._store.answers().values())
        exchange = Exchange(means.link, Topics(spec.topic_root), means.clock, collection, self._store, self._store.keep)
        loop = asyncio.get_running_loop()
        grid = means.grid(loop, exchange, label, nodes, self._dtypes, (means.clock, means.ids))
        packer = Packer(label, nodes, self._dtypes)
        crew = Crew(exchange, self._store, grid, packer, nodes, means.clock)
        return exchange, DurableRun(spec, self._strategy, crew, means.emit), grid

    def _finish(self, position: Position, arrays: Arrays) -> int:
        if position.phase is Phase.FAILED:
            reason = f"too few answers in round {position.round} after {position.attempt} attempts{self._refused()}"
            self._means.emit(Ended(event="failed", rounds=position.round, reason=reason))
            return EXIT_FAILED
        final = {name: array.astype(self._dtypes[name]) for name, array in arrays.items()}
        if not all(np.isfinite(array).all() for array in final.values()):
            self._means.emit(
                Ended(event="failed", rounds=position.round, reason="the final parameters hold NaN or infinity")
            )
            return EXIT_FAILED
        self._means.write(FINAL, save_arrays(final))
        self._means.write(RESULT, encode(self._result(position)))
        self._means.emit(Ended(event="done", rounds=position.round))
        return EXIT_DONE

    def _refused(self) -> str:
        """What devices that did not answer as asked said most often."""
        said = Counter(sorted(answer.reason for answer in self._store.answers().values() if answer.reason))
        return "".join(f"; most often: {reason}" for reason, _ in said.most_common(1))

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


def _limits(spec: Spec) -> Limits:
    return Limits(spec.tolerances.max_examples, spec.tolerances.max_update_ratio)


def _pace(spec: Spec) -> Pace:
    tolerances = spec.tolerances
    return Pace(resend_ns=int(tolerances.resend_s * SECOND), offline_grace_ns=int(tolerances.offline_grace_s * SECOND))
