"""The hub's learning side in a simulation: the real service for federated runs, and the programs that it launches."""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from cloud.core.access import AGGREGATOR, AGGREGATOR_USER, under
from cloud.ports import BrokerUser, JobOrder, Objects, Store
from cloud.service.federated_runs import MODULE as AGGREGATING
from cloud.service.federated_runs import Access, FederatedJobs
from cloud.service.jobs import JobKind
from cloud.service.optimize_jobs import MODULE as DERIVING
from cloud.service.optimize_jobs import OptimizeJobs
from federated.spec import Login
from simulator.core.network import Network, Quality
from simulator.core.rng import SeededIds
from simulator.fakes.jobs import Directory, Emit, Program, ProgramLauncher
from simulator.fakes.optimizer import Deriving
from simulator.world import World
from wire.ports import MILLISECOND
from wire.topics import Topics

if TYPE_CHECKING:
    from simulator.fakes.aggregator import InlineAggregators

NETWORK: Final = Quality(delay_min_ns=MILLISECOND // 5, delay_max_ns=MILLISECOND)
MODEL_BYTES: Final = 130_000


class LearningSide:
    """Outlives a killed hub: directories of jobs lie on its disk."""

    def __init__(self, world: World, objects: Objects, topics: Topics) -> None:
        self._world = world
        self._objects = objects
        self._topics = topics
        self._password = SeededIds(world.rng.child("aggregator password")).secret()
        self._ids = SeededIds(world.rng.child("learning ids"))
        programs: dict[str, Program] = {
            AGGREGATING: self._aggregate,
            DERIVING: Deriving(world.rng.child("derived files"), MODEL_BYTES).run,
        }
        self.launcher = ProgramLauncher(world, programs)
        self._aggregators: InlineAggregators | None = None
        self._starts = 0

    def load(self) -> None:
        """Load Flower, which takes a second: only where devices are to learn."""
        from simulator.fakes.aggregator import InlineAggregators

        self._aggregators = InlineAggregators(self._world, self._network)

    def accepted(self) -> Mapping[str, int]:
        """Device -> updates that were taken."""
        return {} if self._aggregators is None else self._aggregators.accepted()

    def kinds(self, store: Store) -> Mapping[str, JobKind]:
        """The kinds of jobs that this hub knows."""
        clock, ids, login = self._world.clock, self._ids, Login(username=AGGREGATOR_USER, password=self._password)
        access = Access(lambda: self._world.broker.endpoint, lambda: login, self._topics)
        return {
            "federated": FederatedJobs(store, self._objects, self.launcher, (clock, ids), access),
            "derive": OptimizeJobs(store, self._objects, self.launcher, clock, ids),
        }

    def user(self) -> BrokerUser:
        """The aggregator's login."""
        root, verifier = self._topics.root, hashlib.sha256(self._password.encode()).hexdigest()
        return BrokerUser(AGGREGATOR_USER, verifier, under(root, AGGREGATOR.publish), under(root, AGGREGATOR.receive))

    def kill(self) -> None:
        """What the hub has launched dies with it."""
        self.launcher.vanish()
        self._world.broker.detach(AGGREGATOR_USER)

    def kill_jobs(self) -> int:
        """Somebody kills the processes of jobs, and not the hub; how many there were."""
        count = self.launcher.kill_jobs()
        self._world.broker.detach(AGGREGATOR_USER)
        return count

    async def _aggregate(self, order: JobOrder, directory: Directory, emit: Emit) -> int:
        if self._aggregators is None:
            self.load()
        assert self._aggregators is not None
        return await self._aggregators.run(order, directory, emit)

    def _network(self) -> Network:
        self._starts += 1
        return Network(NETWORK, self._world.rng.child(f"aggregator network {self._starts}"), self._world.faults)
