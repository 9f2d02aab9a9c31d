"""The aggregator as a program of the simulation: the run itself, Flower's strategies included, on the virtual loop.

Its memory is a SQLite database in memory that outlives a kill. Strategies are called inline: no time passes for them.
"""

import asyncio
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from cloud.ports import JobOrder
from federated.adapters.run_store import RunStore
from federated.core.issue import Verdict
from federated.core.report import Ended
from federated.flower.grid import MqttGrid, TooFewNodesError
from federated.running import EXIT_FAILED, Aggregator, Means, start_of
from federated.spec import MAX_SPEC_BYTES, Spec
from simulator.core.network import Network
from simulator.core.rng import SeededIds
from simulator.fakes.jobs import Directory, Emit
from simulator.fakes.link import MemoryLink
from simulator.world import World
from wire.adapters.mqtt_link import Credentials
from wire.codec import decode
from wire.errors import WireError

LOOKS: Final = 2
"""A strategy counts the devices, and then draws among them."""


class _Lasting(sqlite3.Connection):
    """A database in memory whose user may die or close it: it is opened again as a file would be."""

    def close(self) -> None:
        """It stays."""


class InlineGrid(MqttGrid):
    """A strategy that waits for devices would wait for ever: while it polls, virtual time stands still."""

    _looks = 0

    def lose_patience_at(self, monotonic_ns: int | None) -> None:
        """The next step is being configured."""
        self._looks = 0
        super().lose_patience_at(monotonic_ns)

    def get_node_ids(self) -> Iterable[int]:
        """As they are. Raises TooFewNodesError when a strategy that has seen how many there are goes on asking."""
        self._looks += 1
        if self._looks > LOOKS:
            raise TooFewNodesError("the strategy wants more devices than are online")
        return super().get_node_ids()


class InlineAggregators:
    """The program `federated.aggregator`. `network`: what each start of it has towards the broker."""

    def __init__(self, world: World, network: Callable[[], Network]) -> None:
        self.memories: dict[str, sqlite3.Connection] = {}
        """Run -> everything that its aggregator remembers."""
        self._world = world
        self._network = network
        self._ids = SeededIds(world.rng.child("aggregator ids"))
        logging.getLogger("flwr").setLevel(logging.CRITICAL)  # it logs every round, and every answer that failed

    async def run(self, order: JobOrder, directory: Directory, emit: Emit) -> int:
        """The `simulator.fakes.jobs.Program`."""
        try:
            spec = decode(order.spec, Spec, limit=MAX_SPEC_BYTES)
            return await self._open(spec, directory, emit).run(asyncio.Event())
        except WireError as error:
            emit(Ended(event="failed", reason=str(error)))
            return EXIT_FAILED

    def accepted(self) -> Counter[str]:
        """Device -> trained updates that were taken, each step of each run counting once."""
        query = "SELECT device, count(*) FROM answer WHERE trained AND verdict = ? GROUP BY device"
        found: Counter[str] = Counter()
        for memory in self.memories.values():
            found.update(dict(memory.execute(query, (Verdict.ACCEPTED.value,))))
        return found

    def _open(self, spec: Spec, directory: Directory, emit: Emit) -> Aggregator:
        starting, digest = start_of(spec, directory[spec.parameters.rpartition("/")[2]])
        memory = self.memories.get(spec.run)
        if memory is None:
            memory = self.memories[spec.run] = sqlite3.connect(":memory:", isolation_level=None, factory=_Lasting)
        credentials = Credentials(spec.login.username, spec.login.password)
        clock = self._world.clock
        means = Means(
            link=MemoryLink(self._world.broker, clock, credentials, network=self._network()),
            clock=clock,
            ids=self._ids,
            store=RunStore(memory, digest),
            write=directory.__setitem__,
            emit=emit,
            grid=InlineGrid,
        )
        return Aggregator(spec, starting, means)
