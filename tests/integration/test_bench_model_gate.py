"""The model gate's own proof, short: damaged models are judged, killers are survived, and the good one still passes."""

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from onnx import ModelProto, TensorProto, helper

from bench import model_gate
from bench.damaged_models.gate import Gate, gate
from bench.damaged_models.structures import damaged
from edge_agent.canary import CanaryOrder
from edge_agent.installer import Limits, Order
from tests.worlds.agent_world import golden_vectors, onnx_model

MODEL = onnx_model(1)


@pytest.fixture
def child() -> Iterator[Gate]:
    """A gate with a child that lives as long as the models let it."""
    with gate(2.0) as one:
        yield one


def order(folder: Path, model: bytes) -> Order:
    """What the gate is asked about `model`."""
    (folder / "model").write_bytes(model)
    (folder / "golden").write_bytes(golden_vectors(MODEL))
    paths = {"model": str(folder / "model"), "golden": str(folder / "golden")}
    what = CanaryOrder(**paths, logits="logits/fp32", tolerance=0.01)
    return Order(limits=Limits(cpu_s=600), what=what)


def killer() -> bytes:
    """Divides the smallest whole number by -1, which the processor answers with a signal."""
    model = ModelProto.FromString(MODEL)
    for name, value in (("least", -(2**63)), ("minus", -1)):
        model.graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [1], [value]))
    model.graph.node[0].output[0] = "before"
    model.graph.node.append(helper.make_node("Div", ["least", "minus"], ["quotient"]))
    model.graph.node.append(helper.make_node("Cast", ["quotient"], ["number"], to=TensorProto.FLOAT))
    model.graph.node.append(helper.make_node("Add", ["before", "number"], ["logits"]))
    data: bytes = model.SerializeToString()
    return data


def test_a_model_that_kills_its_judge_is_a_verdict_and_the_next_judge_works(child: Gate, tmp_path: Path) -> None:
    """The signal is named, and a new child accepts the good model."""
    verdict, end = child.judge(order(tmp_path, killer()))
    assert (verdict.reason, end) == ("the installer child was killed by SIGFPE", 8)
    assert child.judge(order(tmp_path, MODEL))[0].reason == ""
    assert child.starts == 2


def test_damage_is_reproducible_and_keeps_the_model_given() -> None:
    """The same seed damages a model the same way, and leaves the model it was given alone."""
    assert damaged(MODEL, Random(4)) == damaged(MODEL, Random(4))
    assert damaged(MODEL, Random(4)) != damaged(MODEL, Random(5))
    assert onnx_model(1) == MODEL


def test_a_few_hundred_damaged_models(capsys: pytest.CaptureFixture[str]) -> None:
    """The good model passes between them, some mutants run and some do not, and the real installer reads every end."""
    assert model_gate.run(model_gate.Settings(models=240, installed=3, json=True)) == 0
    figures: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["good_refused"] == 0
    assert figures["refused_by_runtime"] > 30
    assert figures["refused_by_golden"] > 10
    assert figures["training_graphs"] > 12
    assert figures["installer"]["models"] == 3
    assert figures["installer"]["unread"] == 0
