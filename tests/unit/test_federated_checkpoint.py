"""A strategy's state survives as bytes: restored into a fresh strategy, it aggregates to the very same values."""

from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp import strategy

from federated.core.issue import Answer, Instruction, Issue, Verdict
from federated.core.node_ids import NodeTable
from federated.flower import checkpoint
from federated.flower.compat import bind_identity
from federated.flower.convert import array_record, ndarrays, to_content
from federated.flower.orders import to_replies
from federated.records import to_object
from wire.federated import Record, Reply, Task

NAMES = ("ada", "bob")
NODES = NodeTable(NAMES)


class Nodes:
    """As much of a grid as configuring needs."""

    def get_node_ids(self) -> list[int]:
        """Everybody."""
        return [NODES.node(name) for name in NAMES]


def learn(subject: Any, arrays: ArrayRecord, round_number: int) -> ArrayRecord:
    """One round with seeded updates."""
    subject.configure_train(round_number, arrays, ConfigRecord(), Nodes())
    rng = np.random.default_rng(round_number)
    instructions, answers = [], []
    for name in NAMES:
        update = {"w": rng.normal(size=(3, 2)).astype(np.float32)}
        records = (
            Record(name="arrays", kind="arrays", keys=("w",)),
            Record(name="metrics", kind="metrics", values={"num-examples": 10, "train-loss": 0.5}),
        )
        task = Task(run="r", task=name, kind="train", round=round_number, model="m", version=1, records=())
        instructions.append(Instruction(name, task, {}))
        reply = Reply(run="r", task=name, ok=True, records=records)
        answers.append(Answer(name, name, Verdict.ACCEPTED, "", reply, to_object({"arrays": update})))
    new, _ = subject.aggregate_train(round_number, to_replies(Issue(tuple(instructions), {}), answers, NODES, 1))
    return new


def wrapped() -> Any:
    """A strategy around another."""
    inner = strategy.FedAvgM(server_momentum=0.9)
    return strategy.DifferentialPrivacyServerSideAdaptiveClipping(inner, noise_multiplier=0.1, num_sampled_clients=10)


MAKERS = {
    "FedAvgM": lambda: strategy.FedAvgM(server_momentum=0.5),
    "FedAdam": strategy.FedAdam,
    "FedYogi": strategy.FedYogi,
    "FedAdagrad": strategy.FedAdagrad,
    "QFedAvg": lambda: strategy.QFedAvg(client_learning_rate=0.1, train_loss_key="train-loss"),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_restored_strategy_goes_on_bit_for_bit(name: str) -> None:
    """After two rounds: dump, restore into a fresh one, a third round on both."""
    bind_identity(1)
    arrays = array_record({"w": np.ones((3, 2), np.float32)})
    one, other = MAKERS[name](), MAKERS[name]()
    for round_number in (1, 2):
        arrays = learn(one, arrays, round_number)
    checkpoint.restore(other, checkpoint.dump(one))
    np.testing.assert_array_equal(ndarrays(learn(one, arrays, 3))["w"], ndarrays(learn(other, arrays, 3))["w"])


def test_wrapped_strategies_are_followed() -> None:
    """State inside the wrapped one comes back too."""
    one, other = wrapped(), wrapped()
    one.strategy.momentum_vector = [np.arange(3.0)]
    one.clipping_norm = 0.25
    checkpoint.restore(other, checkpoint.dump(one))
    np.testing.assert_array_equal(other.strategy.momentum_vector[0], np.arange(3.0))
    assert other.clipping_norm == 0.25


def test_what_cannot_be_stored_is_named() -> None:
    """Better at the first checkpoint than after a crash."""
    subject = strategy.FedAvg()
    subject.socket = object()
    with pytest.raises(checkpoint.CheckpointError, match=r"FedAvg\.socket"):
        checkpoint.dump(subject)


def test_content_keeps_the_order_of_parameters() -> None:
    """Strategies pair arrays by position."""
    records = (Record(name="arrays", kind="arrays", keys=("z", "a")),)
    data = to_object({"arrays": {"z": np.zeros(1), "a": np.ones(1)}})
    content = to_content(Reply(run="r", task="t", ok=True, records=records), data)
    assert list(content["arrays"]) == ["z", "a"]
