"""The installer child against good and hostile files: every outcome is a verdict with its reason."""

import asyncio
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from onnx import TensorProto, helper
from safetensors.numpy import save

from edge_agent.adapters.child_installer import ChildInstaller
from edge_agent.ports import CanaryRequest, CanaryVerdict
from tests.worlds.agent_world import golden_vectors, onnx_model

MODEL = onnx_model(1)
GOLDEN = golden_vectors(MODEL)


def judge(folder: Path, model: bytes, golden: bytes, **changes: object) -> CanaryVerdict:
    """Run the child on these files."""
    (folder / "model").write_bytes(model)
    (folder / "golden").write_bytes(golden)
    values = {"logits": "logits/fp32", "tolerance": 0.01, "time_limit_s": 20.0} | changes
    command = values.pop("command", None)
    locate = lambda path: str(folder / path)  # noqa: E731
    installer = ChildInstaller(locate, command) if command else ChildInstaller(locate)  # type: ignore[arg-type]
    return asyncio.run(installer.canary(CanaryRequest(model="model", golden="golden", **values)))  # type: ignore[arg-type]


def test_a_model_that_reproduces_its_golden_vectors_passes_with_figures(tmp_path: Path) -> None:
    """All 32 match, and what it cost is measured."""
    verdict = judge(tmp_path, MODEL, GOLDEN)
    assert verdict.reason == ""
    assert verdict.golden is not None
    assert (verdict.golden.matched, verdict.golden.total) == (32, 32)
    assert verdict.p50_ms > 0
    assert verdict.rss_bytes > 10_000_000


HOSTILE = {
    "not a model": (b"\x08\x07garbage" * 100, GOLDEN, {}, "begins no field"),
    "truncated model": (MODEL[: len(MODEL) // 2], GOLDEN, {}, ": "),
    "empty model": (b"", GOLDEN, {}, ": "),
    "another model": (onnx_model(2), GOLDEN, {}, "golden inputs get another class"),
    "other logits": (MODEL, golden_vectors(MODEL, wrong=True), {}, "golden inputs get another class"),
    "golden file is garbage": (MODEL, b"garbage", {}, "golden vectors: "),
    "no logits of this variant": (MODEL, GOLDEN, {"logits": "logits/int8"}, "no tensor 'logits/int8'"),
    "wrong input shape": (
        MODEL,
        save({"inputs": np.zeros((2, 9), np.float16), "logits/fp32": np.zeros((2, 3), np.float32)}),
        {},
        "INVALID_ARGUMENT",
    ),
    "crash": (MODEL, GOLDEN, {"command": (sys.executable, "-c", "import os; os.abort()")}, "killed by SIGABRT"),
    "never done": (
        MODEL,
        GOLDEN,
        {"command": (sys.executable, "-c", "input()\nwhile True: pass"), "time_limit_s": 0.5},
        "not done after 0.5 s",
    ),
    "nonsense": (MODEL, GOLDEN, {"command": (sys.executable, "-c", "print('fine')")}, "gave no verdict"),
    "exit code": (MODEL, GOLDEN, {"command": (sys.executable, "-c", "raise SystemExit(3)")}, "exit code 3"),
    "a signal without a name": (
        MODEL,
        GOLDEN,
        {"command": ("/bin/sh", "-c", "kill -40 $$; sleep 5")},
        "killed by signal 40",
    ),
    "endless output": (
        MODEL,
        GOLDEN,
        {"command": ("/bin/sh", "-c", "exec yes"), "time_limit_s": 10.0},
        "wrote more than its verdict",
    ),
    "golden vectors with NaN": (
        MODEL,
        save({"inputs": np.ones((2, 4), np.float16), "logits/fp32": np.full((2, 3), np.nan, np.float32)}),
        {},
        "'logits/fp32' holds NaN or infinity",
    ),
    "no such program": (MODEL, GOLDEN, {"command": ("/nonexistent/python",)}, "cannot be started"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_does_not_prove_itself_is_rejected_with_the_reason(case: str, tmp_path: Path) -> None:
    """And never passes."""
    model, golden, changes, reason = HOSTILE[case]
    assert reason in judge(tmp_path, model, golden, **changes).reason  # type: ignore[arg-type]


def endless_model() -> bytes:
    """A graph whose loop does not end."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["still_going"]),
            helper.make_node("Relu", ["carried"], ["carried_on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still_going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried_on", TensorProto.FLOAT, None),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["", "yes", "x"], ["logits"], body=body)],
        "endless",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [helper.make_tensor("yes", TensorProto.BOOL, [], [True])],
    )
    opset = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_child_at_work_ends_with_a_daemon_that_is_killed(tmp_path: Path) -> None:
    """Nobody is left behind that computes for nobody."""
    (tmp_path / "model").write_bytes(endless_model())
    (tmp_path / "golden").write_bytes(GOLDEN)
    daemon = (
        "import asyncio, sys\n"
        "from edge_agent.adapters.child_installer import ChildInstaller\n"
        "from edge_agent.ports import CanaryRequest\n"
        "request = CanaryRequest(model='model', golden='golden', logits='logits/fp32', tolerance=1, time_limit_s=60)\n"
        "asyncio.run(ChildInstaller(lambda name: f'{sys.argv[1]}/{name}').canary(request))\n"
    )
    process = psutil.Popen([sys.executable, "-c", daemon, str(tmp_path)])
    try:
        deadline = time.monotonic() + 60
        while not (children := process.children()) or children[0].cpu_times().user < 1.5:
            assert process.poll() is None
            assert time.monotonic() < deadline, "the child does not come to work"
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait(10)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
