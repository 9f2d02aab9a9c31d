"""The same federated job as plain function calls in one process: what every other way of running it must equal."""

import random
from collections.abc import Iterable
from typing import Any

from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid, strategy

from federated.core.node_ids import NodeTable
from federated.device.ports import LearningFiles
from federated.device.trainer import OnnxTrainer
from federated.device.training import Recipe, seed_of, split
from federated.flower.compat import bind_identity
from federated.flower.convert import array_record, ndarrays
from tests.worlds.federated_world import CONFIG, samples_of, starting_parameters

NAMES = ("ada", "bob", "cleo", "dan")
STRATEGIES: dict[str, dict[str, Any]] = {
    "FedAvg": {},
    "FedAvgM": {"server_momentum": 0.5},
    "FedAdam": {"eta": 0.05},
    "FedMedian": {},
    "FedTrimmedAvg": {"beta": 0.25},
}


class LocalGrid(Grid):
    """The same devices as plain function calls, for comparison."""

    def __init__(self, files: LearningFiles) -> None:
        self._nodes = NodeTable(NAMES)
        self._trainer = OnnxTrainer(files)
        bind_identity(1)

    set_run = run = create_message = push_messages = pull_messages = None

    def get_node_ids(self) -> Iterable[int]:
        """Everybody."""
        return [self._nodes.node(name) for name in NAMES]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Do the work at once."""
        return sorted((self._reply(message) for message in messages), key=lambda reply: reply.metadata.src_node_id)

    def _reply(self, message: Message) -> Message:
        device = self._nodes.device(message.metadata.dst_node_id)
        config, parameters = message.content["config"], ndarrays(message.content["arrays"])
        samples = samples_of(device)
        parts = split(samples.y, 0.2)
        if message.metadata.message_type == "train":
            seed = seed_of(device, config["seed"], config["server-round"])
            recipe = Recipe(config["local-epochs"], config["lr"], config["momentum"], seed)
            new = self._trainer.train(parameters, samples, parts.train, recipe, lambda: False)
            metrics = MetricRecord({"num-examples": new.examples, "train-loss": new.loss})
            ordered = {name: new.parameters[name] for name in parameters}
            return Message(RecordDict({"arrays": array_record(ordered), "metrics": metrics}), reply_to=message)
        got = self._trainer.evaluate(parameters, samples, parts.holdout, lambda: False)
        figures = {"num-examples": got.examples, "eval-acc": got.accuracy, "eval-loss": got.loss}
        return Message(RecordDict({"metrics": MetricRecord(figures)}), reply_to=message)


LocalGrid.__abstractmethods__ = frozenset()


def play(grid: Grid, name: str, rounds: int) -> Any:
    """The strategy's own loop."""
    random.seed(5)
    chosen = getattr(strategy, name)(**STRATEGIES[name])
    config = ConfigRecord(dict(CONFIG))
    return chosen.start(grid, array_record(starting_parameters()), num_rounds=rounds, timeout=20, train_config=config)
