"""The upload gate's judgement: model files of three kinds are described, everything else is refused and told why."""

import struct

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from cloud.inspection.__main__ import judged
from cloud.inspection.refusal import RefusedError
from tests.samples.model_files import (
    WEIGHTS,
    external,
    floods,
    onnx_model,
    pickled,
    safetensors,
    safetensors_header,
    tflite,
    zipped,
)


def no_data(model: ModelProto) -> None:
    """A shape of a trillion elements with the data of six."""
    model.graph.initializer[0].dims[:] = [10**6, 10**6]


def negative(model: ModelProto) -> None:
    """A dimension that nobody can allocate."""
    model.graph.initializer[0].dims[:] = [-2, -3]


def unknown_operator(model: ModelProto) -> None:
    """An operator that the standard set lacks."""
    model.graph.node[0].op_type = "MatMull"


def no_such_input(model: ModelProto) -> None:
    """A node that takes what nobody makes."""
    model.graph.node[0].input[1] = "nobody"


def hidden_external(model: ModelProto) -> None:
    """External data inside an attribute of a node."""
    inner = helper.make_tensor("c", TensorProto.FLOAT, [1], [1.0])
    inner.data_location = TensorProto.EXTERNAL
    inner.external_data.add(key="location", value="/etc/passwd")
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=inner))


BOMB = zipped(zeros=bytes(20_000_000))
REFUSED = {
    "empty": (b"", "it is empty"),
    "noise": (np.random.default_rng(3).bytes(5_000), "no ONNX, TFLite or safetensors"),
    "text": (b"this is not a model\n" * 50, "no ONNX, TFLite or safetensors"),
    "pickle 4": (pickled(), "it is a pickle"),
    "pickle 0, without a magic number": (pickled(protocol=0), "it is a pickle"),
    "pickle with more behind it": (pickled() + onnx_model(), "it is a pickle"),
    "torch archive": (
        zipped(**{"model/data.pkl": pickled(), "model/0": b"w"}),
        "torch archive.*'model/data.pkl'",
    ),
    "renamed torch archive behind a model": (onnx_model() + zipped(**{"m/data.pkl": pickled()}), "torch archive"),
    "zip": (zipped(weights=WEIGHTS.tobytes()), "zip archive"),
    "zip bomb": (BOMB, "zip bomb: .* unpack to 20000000"),
    "zip with a way out": (zipped(**{"../../etc/cron.d/x": b"x"}), r"leads out of its directory"),
    "zip with a Windows path": (zipped(**{"C:\\x": b"x"}), r"leads out of its directory"),
    "broken zip": (zipped(a=b"a" * 500)[:50], "begins as a zip archive"),
    "gzip": (b"\x1f\x8b\x08\x00rest", "gzip"),
    "tar": (bytes(257) + b"ustar\x0000" + bytes(300), "tar archive"),
    "Keras": (b"\x89HDF\r\n\x1a\nrest", "HDF5"),
    "NumPy": (b"\x93NUMPY\x01\x00rest", "NumPy"),
    "ONNX cut short": (onnx_model()[:-9], "no ONNX, TFLite or safetensors"),
    "ONNX without a graph": (helper.make_model(helper.make_graph([], "g", [], [])).SerializeToString(), "no graph"),
    "ONNX with external data": (onnx_model(external("weights.bin")), r"external data: 'weights.bin'"),
    "ONNX with a path": (onnx_model(external("../../keys/director.key")), r"external data: '../../keys/director.key'"),
    "ONNX with hidden external data": (onnx_model(hidden_external), r"external data: '/etc/passwd'"),
    "ONNX tensor without its data": (onnx_model(no_data), "needs 4000000000000 bytes and has 24"),
    "ONNX negative dimension": (onnx_model(negative), "negative dimension"),
    "ONNX that floods": (onnx_model(floods), "'flood' of shape .* would take 17179869184 bytes"),
    "ONNX unknown operator": (onnx_model(unknown_operator), "no valid ONNX: .*MatMull"),
    "ONNX dangling input": (onnx_model(no_such_input), "no valid ONNX"),
    "safetensors header beyond the file": (struct.pack("<Q", 10**15) + b"{", "claims 1000000000000000 bytes"),
    "safetensors header that is no JSON": (safetensors_header(b"{nonsense"), "cannot be understood"),
    "safetensors with absurd shape": (
        safetensors_header(b'{"w":{"dtype":"F32","shape":[1000000000000,9],"data_offsets":[0,4]}}', bytes(4)),
        "no valid safetensors",
    ),
    "safetensors with a gap": (
        safetensors_header(b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', bytes(8)),
        "no valid safetensors",
    ),
    "TFLite of another schema": (tflite(version=2), "schema version 2"),
    "TFLite with too little data": (tflite(data=bytes(5)), "needs 24 bytes and has 5"),
    "TFLite with an absurd shape": (tflite(shape=(2**30, 2**20)), "would take"),
    "TFLite cut short": (tflite()[:40], "no valid TFLite"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_its_reason(name: str) -> None:
    """By content: no name and no content type is asked for."""
    data, reason = REFUSED[name]
    with pytest.raises(RefusedError, match=reason):
        judged(data)


def test_a_model_says_what_it_needs() -> None:
    """Opset, operators, and what goes in and out."""
    kind, facts = judged(onnx_model())
    assert (kind, facts["opset"], facts["operators"]) == ("onnx", 17, ["MatMul"])
    assert facts["inputs"] == [{"name": "x", "shape": [-1, 2], "dtype": "float32"}]


def test_a_tflite_file_is_described() -> None:
    """Custom operators by name."""
    kind, facts = judged(tflite())
    assert (kind, facts["operators"]) == ("tflite", ["custom::Ours"])
    assert facts["inputs"] == facts["outputs"] == [{"name": "w", "shape": [2, 3], "dtype": "float32"}]


@pytest.mark.parametrize("tensors", [1, 40])
def test_safetensors_are_described(tensors: int) -> None:
    """Every tensor with shape and type."""
    kind, facts = judged(safetensors(**{f"w{index:02}": WEIGHTS for index in range(tensors)}))
    assert (kind, len(facts["tensors"])) == ("safetensors", tensors)
    assert facts["tensors"][0] == {"name": "w00", "shape": [2, 3], "dtype": "F32"}


def test_every_truncation_of_a_tflite_file_is_refused_in_words() -> None:
    """Offsets that lead nowhere are no defects of the hub."""
    whole = tflite()
    for length in range(8, len(whole) - 30, 3):
        with pytest.raises(RefusedError):
            judged(whole[:length])
