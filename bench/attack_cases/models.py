"""Attacks with model files that the publisher vouched for by mistake: they kill, hang, swell, lie, or read on.

Those that could take this process with them run in a process that stands for the daemon.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper
from safetensors.numpy import save

from bench.attack_cases import daemon
from bench.attack_cases.attack import Attack, Outcome
from bench.replacing import replaced
from edge_agent import canary
from edge_agent.adapters import child_installer
from edge_agent.adapters.child_installer import ChildInstaller
from edge_agent.canary import CanaryOrder
from edge_agent.installer import Limits
from edge_agent.ports import CanaryRequest
from wire import golden

FEATURES, CLASSES = 4, 3
KILLS, READS, LIES = "ONNX file kills the process", "ONNX file reads other files", "model that does not do what it did"
LONG_S = 1e6
"""What the child may take when its time is not limited."""
PATIENCE_S, SHORT_PATIENCE_S = 30.0, 4.0
"""How long a daemon may take to say what it thinks of a model."""
OUT_OF_TIME = "the installer child was"
"""It was not done in time, or was killed for the processor time that it took: whichever comes first."""
SWELL_LIMIT_S = 5.0
WEIGHTS = np.random.default_rng(1).normal(size=(FEATURES, CLASSES)).astype(np.float32)
Change = Callable[[ModelProto, Path], None]


def honest() -> ModelProto:
    """x [N, 4] -> logits [N, 3]."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["logits"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", FEATURES])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        [helper.make_tensor("w", TensorProto.FLOAT, WEIGHTS.shape, WEIGHTS.tobytes(), raw=True)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def golden_vectors() -> bytes:
    """What the honest model answers."""
    inputs = np.random.default_rng(5).normal(size=(8, FEATURES)).astype(np.float16)
    data: bytes = save({"inputs": inputs, "logits/fp32": inputs.astype(np.float32) @ WEIGHTS})
    return data


# What the files do.


def _divides(model: ModelProto, folder: Path) -> None:
    """The smallest whole number by -1, which the processor answers with a signal."""
    _add_constants(model, least=(TensorProto.INT64, -(2**63)), minus=(TensorProto.INT64, -1))
    _before_logits(model, helper.make_node("Div", ["least", "minus"], ["quotient"]), "quotient")


def _swells(model: ModelProto, folder: Path) -> None:
    """More than two gigabytes, all of which are written."""
    _add_constants(model, many=(TensorProto.INT64, 5 << 27))
    _before_logits(model, helper.make_node("ConstantOfShape", ["many"], ["flood"]), "flood", reduce=True)


def _loops(model: ModelProto, folder: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["again"]), helper.make_node("Neg", ["carried"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    model.graph.initializer.append(helper.make_tensor("turns", TensorProto.INT64, [], [2**63 - 1]))
    model.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    model.graph.node[0].output[0] = "start"
    model.graph.node.append(helper.make_node("Loop", ["turns", "yes", "start"], ["logits"], body=body))


def _takes_neighbours_file(model: ModelProto, folder: Path) -> None:
    """Weights of another object in the same directory, which nobody signed as part of this model."""
    (folder / "neighbour").write_bytes(WEIGHTS.tobytes())
    _weights_from(model, "neighbour")


def _takes_linked_file(model: ModelProto, folder: Path) -> None:
    """The same through a hard link to a file far away."""
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "secret").write_bytes(WEIGHTS.tobytes())
    os.link(folder / "elsewhere" / "secret", folder / "link")
    _weights_from(model, "link")


def _other_weights(model: ModelProto, folder: Path) -> None:
    """A model that works, and answers something else."""
    model.graph.initializer[0].raw_data = (-WEIGHTS).tobytes()


def _not_finite(model: ModelProto, folder: Path) -> None:
    model.graph.initializer[0].raw_data = np.full_like(WEIGHTS, np.nan).tobytes()


def _weights_from(model: ModelProto, location: str) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)


def _add_constants(model: ModelProto, **values: tuple[int, int]) -> None:
    for name, (kind, value) in values.items():
        model.graph.initializer.append(helper.make_tensor(name, kind, [1], [value]))


def _before_logits(model: ModelProto, node: object, name: str, *, reduce: bool = False) -> None:
    """The logits are computed with `name` in them."""
    model.graph.node[0].output[0] = "before"
    nodes = [node, helper.make_node("Cast", [name], ["number"], to=TensorProto.FLOAT)]
    nodes += [helper.make_node("ReduceMax", ["number"], ["one"], keepdims=0)] if reduce else []
    model.graph.node.extend([*nodes, helper.make_node("Add", ["before", "one" if reduce else "number"], ["logits"])])


# Tries.


def in_daemon(change: Change, limit_s: float) -> Callable[[], Outcome]:
    """The attacker wants the daemon dead, or busy for ever. `limit_s` is the time of its child."""

    def attempt() -> Outcome:
        with _laid_out(change) as folder:
            command = [sys.executable, "-m", daemon.__name__, folder, str(limit_s if GUARDED.limited else LONG_S)]
            command += ["child" if GUARDED.apart else "inline"]
            patience_s = PATIENCE_S if GUARDED.limited else SHORT_PATIENCE_S
            try:
                done = subprocess.run(command, capture_output=True, timeout=patience_s, check=False)
            except subprocess.TimeoutExpired:
                return Outcome(True, "the daemon is still at it")
        return Outcome(done.returncode != 0, done.stdout.decode().strip() or f"ended with {done.returncode}")

    return attempt


class GUARDED:
    """What the process that stands for the daemon is told: it is out of reach for substitutions."""

    apart = True
    """Models are tried in a child."""
    limited = True
    """The child has limited time."""


def in_canary(change: Change) -> Callable[[], Outcome]:
    """The attacker wants its model to pass; it does no harm to who tries it."""

    def attempt() -> Outcome:
        with _laid_out(change) as folder:
            paths = {"model": f"{folder}/model", "golden": f"{folder}/golden"}
            verdict = canary.attempt(CanaryOrder(**paths, logits="logits/fp32", tolerance=0.01))
        return Outcome(not verdict.reason, verdict.reason)

    return attempt


def _swell() -> Outcome:
    """The attacker wants the device out of memory."""
    with _laid_out(_swells) as folder:
        request = CanaryRequest("model", "golden", "logits/fp32", 0.01, SWELL_LIMIT_S)
        verdict = asyncio.run(ChildInstaller(lambda path: f"{folder}/{path}").canary(request))
    return Outcome("alloc" not in verdict.reason, verdict.reason)


def _unlimited_memory() -> AbstractContextManager[None]:
    limits = lambda cpu_s: Limits(cpu_s=cpu_s, address_space_bytes=16 << 30)  # noqa: E731
    return replaced(child_installer, Limits=limits)


def _laid_out(change: Change) -> "AbstractContextManager[str]":
    folder = tempfile.TemporaryDirectory(prefix="fleetloop-attack-")
    model = honest()
    change(model, Path(folder.name))
    Path(folder.name, "model").write_bytes(model.SerializeToString())
    Path(folder.name, "golden").write_bytes(golden_vectors())
    return folder


def _no_comparison() -> AbstractContextManager[None]:
    return replaced(golden, check=lambda expected, actual, tolerance: golden.GoldenVerdict(True, 0.0))


ATTACKS = (
    Attack("model that ends its process by a signal", KILLS, "models are tried in a child", "killed by SIGFPE",
           in_daemon(_divides, 20.0), lambda: replaced(GUARDED, apart=False), heavy=True),
    Attack("model that never ends", KILLS, "time limit of the child", OUT_OF_TIME, in_daemon(_loops, 1.5),
           lambda: replaced(GUARDED, limited=False), heavy=True),
    Attack("model that wants gigabytes", KILLS, "address space of the child", "alloc", _swell,
           _unlimited_memory, heavy=True),
    Attack("weights from a neighbouring file", READS, "a model is one file", "other files",
           in_canary(_takes_neighbours_file), lambda: replaced(canary, takes_other_files=lambda model: False)),
    Attack("weights through a hard link", READS, "a model is one file", "other files",
           in_canary(_takes_linked_file), lambda: replaced(canary, takes_other_files=lambda model: False)),
    Attack("model with other answers", LIES, "golden vectors", "another class", in_canary(_other_weights),
           _no_comparison),
    Attack("model that answers NaN", LIES, "golden vectors", "not finite", in_canary(_not_finite), _no_comparison),
)  # fmt: skip
