"""The table of steps, node numbers, records, splits and batches: the pure parts of a run."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated.core.node_ids import NodeTable
from federated.core.rounds import ENDED, IllegalStepError, Phase, Plan, Position, close
from federated.device.training import batches, seed_of, split
from federated.records import from_object, load_arrays, to_object
from wire.errors import MalformedError
from wire.federated import Record

PLAN = Plan(rounds=4, evaluate_every=2, quorum=2, attempts=3)


def walk(plan: Plan, accepted: list[int]) -> list[str]:
    """Labels of the steps taken, with these numbers of accepted answers (the last one repeats)."""
    position, labels = Position(), []
    while position.phase not in ENDED:
        labels.append(position.label)
        position = close(position, accepted[min(len(labels), len(accepted)) - 1], plan)
    return [*labels, position.phase.value]


def test_a_smooth_run_takes_its_steps_in_order() -> None:
    """Before, rounds with evaluations in between, after."""
    assert walk(PLAN, [5]) == [
        "before-0-1", "train-1-1", "train-2-1", "evaluate-2-1", "train-3-1", "train-4-1", "evaluate-4-1",
        "after-4-1", "done",
    ]  # fmt: skip


def test_a_short_training_step_is_repeated_and_then_ends_the_run() -> None:
    """Three attempts."""
    assert walk(PLAN, [5, 1]) == ["before-0-1", "train-1-1", "train-1-2", "train-1-3", "failed"]


def test_a_short_evaluation_between_rounds_costs_only_a_figure() -> None:
    """The run goes on."""
    assert "evaluate-2-2" not in walk(PLAN, [5, 5, 5, 0, 5])


@given(st.integers(1, 6), st.integers(0, 4), st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_every_run_ends(rounds: int, every: int, accepted: list[int]) -> None:
    """Whatever comes back, no step is taken twice and the number of steps is bounded."""
    labels = walk(Plan(rounds, every, 2, 3), accepted)
    assert len(labels) == len(set(labels)) <= 3 * (2 * rounds + 2) + 1


@pytest.mark.parametrize("phase", sorted(ENDED))
def test_an_ended_run_has_no_step_to_close(phase: Phase) -> None:
    """That would be our bug."""
    with pytest.raises(IllegalStepError):
        close(Position(phase, 4), 5, PLAN)


def test_node_numbers_are_stable_and_lead_back() -> None:
    """The same for any order of names, never Flower's own number, and unknown ones are refused."""
    table = NodeTable(["bob", "ada"])
    assert table.node("ada") == NodeTable(["ada"]).node("ada") > 1
    assert table.device(table.node("bob")) == "bob"
    assert table.devices == ("ada", "bob")
    with pytest.raises(KeyError):
        table.device(1)


def test_records_travel_bit_for_bit_in_their_order() -> None:
    """Scalars and non-contiguous arrays too."""
    arrays = {"z": np.float32(3).reshape(()), "a": np.arange(6, dtype=np.int64).reshape(2, 3).T}
    data = to_object({"arrays": arrays})
    back = from_object(data, [Record(name="arrays", kind="arrays", keys=("z", "a"))])["arrays"]
    assert list(back) == ["z", "a"]
    for name, array in arrays.items():
        assert back[name].shape == array.shape
        np.testing.assert_array_equal(back[name], array)


@pytest.mark.parametrize("data", [b"", b"junk", b"\xff" * 64])
def test_junk_is_not_an_object(data: bytes) -> None:
    """A clear error, whatever the bytes."""
    with pytest.raises(MalformedError, match="safetensors"):
        load_arrays(data)


def test_an_object_with_other_keys_than_announced_is_malformed() -> None:
    """Missing or too many."""
    data = to_object({"arrays": {"a": np.zeros(1)}})
    for keys in (("a", "b"), ()):
        with pytest.raises(MalformedError, match="announced"):
            from_object(data, [Record(name="arrays", kind="arrays", keys=keys)])


def test_holdout_is_the_end_of_each_label_behind_a_gap() -> None:
    """The last 20 % in capture order; the window before is used for nothing."""
    labels = np.array([0] * 10 + [1] * 5 + [2] * 2)
    parts = split(labels, 0.2)
    assert parts.holdout.tolist() == [8, 9, 14]
    assert parts.train.tolist() == [0, 1, 2, 3, 4, 5, 6, 10, 11, 12, 15, 16]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.floats(0, 0.9))
def test_training_and_holdout_never_touch(labels: list[int], share: float) -> None:
    """No window in both, and of one label never neighbours."""
    array = np.array(labels)
    parts = split(array, share)
    assert not set(parts.train) & set(parts.holdout)
    for label in set(labels):
        places = np.flatnonzero(array == label).tolist()
        held = [places.index(place) for place in parts.holdout if array[place] == label]
        trained = [places.index(place) for place in parts.train if array[place] == label]
        if held and trained:
            assert min(held) - max(trained) == 2


def test_an_epoch_visits_every_window_and_fills_its_last_batch() -> None:
    """Seeded: the same order for the same device and round, another for another."""
    train = np.arange(10)
    order = batches(train, 4, np.random.default_rng(seed_of("ada", 7, 1)))
    assert order.shape == (3, 4)
    assert set(order.ravel()) == set(range(10))
    np.testing.assert_array_equal(order, batches(train, 4, np.random.default_rng(seed_of("ada", 7, 1))))
    assert seed_of("ada", 7, 1) != seed_of("bob", 7, 1) != seed_of("bob", 7, 2)
    assert batches(train[:3], 8, np.random.default_rng(1)).shape == (1, 8)
