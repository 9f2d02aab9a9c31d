"""A model of the size and kind that a watch runs: three convolutions over six channels, 35 kB of float32 weights."""

from dataclasses import replace

import msgspec
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from safetensors.numpy import save

from cloud.service.registry import Built, Numbers
from simulator.version import VARIANT, Files, build
from wire.release import RuntimeNeeds, Tensor

MODEL = "proof"
INPUT_SHAPE = (6, 128)
CLASSES = tuple(f"exercise {number}" for number in range(10))
OPSET = 17
VECTORS = 32


def files_of(seed: int = 0) -> Files:
    """The model with its golden vectors, computed here."""
    model = _model(np.random.default_rng(seed))
    inputs = np.random.default_rng(seed + 1).normal(size=(VECTORS, *INPUT_SHAPE)).astype(np.float16)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"x": inputs.astype(np.float32)})[0]
    return Files(model, model, save({"inputs": inputs, f"logits/{VARIANT}": logits}), b"parameters")


def released(numbers: Numbers, files: Files, request: str) -> Built:
    """The documents of a version of these files."""
    built = build(MODEL, numbers, files, request)
    needs = RuntimeNeeds(opset=OPSET, operators=("Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm"))
    variant = msgspec.structs.replace(built.release.variants[0], precision="fp32", needs=needs)
    release = msgspec.structs.replace(
        built.release, input=Tensor(name="x", shape=(-1, *INPUT_SHAPE)), classes=CLASSES, variants=(variant,)
    )
    return replace(built, release=release)


def _model(rng: np.random.Generator) -> bytes:
    shapes = {
        "w1": (16, 6, 5), "b1": (16,), "w2": (32, 16, 5), "b2": (32,), "w3": (32, 32, 5), "b3": (32,),
        "w4": (32, len(CLASSES)), "b4": (len(CLASSES),),
    }  # fmt: skip
    nodes, value = [], "x"
    for number in (1, 2, 3):
        convolution = helper.make_node(
            "Conv", [value, f"w{number}", f"b{number}"], [f"c{number}"], strides=[2], pads=[2, 2]
        )
        nodes += [convolution, helper.make_node("Relu", [f"c{number}"], [f"r{number}"])]
        value = f"r{number}"
    nodes += [
        helper.make_node("GlobalAveragePool", [value], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w4", "b4"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "watch-like",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *INPUT_SHAPE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", len(CLASSES)])],
        [_weights(rng, name, shape) for name, shape in shapes.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def _weights(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> onnx.TensorProto:
    values = rng.normal(size=shape).astype(np.float32)
    return helper.make_tensor(name, TensorProto.FLOAT, shape, values.tobytes(), raw=True)
