"""Small real models with golden vectors that they reproduce, or do not."""

import numpy as np
from onnx import TensorProto, helper
from safetensors.numpy import save

from bench.crash_states.releases import FEATURES, Shipped, release

CLASSES = 4
INPUTS = 32
PADDING_BYTES = 130_000
"""Makes a model three chunks long."""


def linear(version: int, *, wrong: bool = False) -> Shipped:
    """Version `version` of a linear model; `wrong`: its golden vectors are those of another."""
    rng = np.random.default_rng(version)
    weights = rng.normal(size=(FEATURES, CLASSES)).astype(np.float32)
    inputs = rng.normal(size=(INPUTS, FEATURES)).astype(np.float16)
    logits = inputs.astype(np.float32) @ weights
    return release(version, _onnx(weights), save({"inputs": inputs, "logits/fp32": -logits if wrong else logits}))


def _onnx(weights: "np.typing.NDArray[np.float32]") -> bytes:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["logits"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", FEATURES])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        [helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.tobytes(), raw=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.doc_string = "p" * PADDING_BYTES
    data: bytes = model.SerializeToString()
    return data
