"""Unmodified Flower strategies over a real broker and real devices give what the same job gives in one process."""

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from federated.adapters.exchange import Exchange, MemoryLedger
from federated.core.collection import Collection, Pace
from federated.core.issue import RunLabel
from federated.core.node_ids import NodeTable
from federated.core.replies import Limits
from federated.device.ports import LearningFiles
from federated.flower.convert import ndarrays
from federated.flower.grid import MqttGrid
from tests.scenes.federated_local import NAMES, STRATEGIES, LocalGrid, play
from tests.servers.plain_broker import BrokerProcess
from tests.worlds.federated_world import (
    MODEL,
    TOPICS,
    VERSION,
    fleet,
    starting_parameters,
    write_graphs,
)
from wire.adapters.mqtt_link import Credentials, MqttLink
from wire.adapters.system import SystemClock, SystemIds

ROUNDS = 3


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    """One broker for all strategies."""
    process = BrokerProcess()
    yield process
    process.kill()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> LearningFiles:
    """The model's graphs."""
    return write_graphs(tmp_path_factory.mktemp("graphs"))


@pytest.mark.parametrize("name", STRATEGIES)
def test_strategy_runs_unmodified_over_mqtt(name: str, broker: BrokerProcess, files: LearningFiles) -> None:
    """`Strategy.start` through the grid: parameters and metrics are bit for bit those of the in-process run."""

    async def over_mqtt() -> Any:
        link, clock = MqttLink(broker.address, Credentials("aggregator", "secret")), SystemClock()
        label = RunLabel(f"run-{name}", MODEL, VERSION)
        exchange = Exchange(
            link, TOPICS, clock, Collection(label.run, Limits(), Pace()), MemoryLedger(), lambda answer: None
        )
        dtypes = {key: array.dtype for key, array in starting_parameters().items()}
        async with fleet(NAMES, broker.address, files):
            await exchange.open(NAMES)
            while exchange.online != set(NAMES):
                await exchange.changed()
            loop = asyncio.get_running_loop()
            grid = MqttGrid(loop, exchange, label, NodeTable(NAMES), dtypes, (clock, SystemIds()))
            try:
                return await asyncio.to_thread(play, grid, name, ROUNDS)
            finally:
                await exchange.close(clear=True)

    there, here = asyncio.run(over_mqtt()), play(LocalGrid(files), name, ROUNDS)
    for key, array in ndarrays(here.arrays).items():
        np.testing.assert_array_equal(ndarrays(there.arrays)[key], array)
    assert there.evaluate_metrics_clientapp == here.evaluate_metrics_clientapp
    assert there.evaluate_metrics_clientapp[ROUNDS]["eval-acc"] > 0.7
