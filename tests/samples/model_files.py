"""Model files for tests: small honest ones of each kind, and the ways in which files lie about what they are."""

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
from onnx import ModelProto, TensorProto, helper
from safetensors.numpy import save

WEIGHTS = np.arange(6, dtype=np.float32).reshape(2, 3)


def onnx_model(change: Callable[[ModelProto], object] | None = None) -> bytes:
    """x [N, 2] -> logits [N, 3]; `change` makes something else of it."""
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["logits"])],
            "linear",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
            [helper.make_tensor("w", TensorProto.FLOAT, WEIGHTS.shape, WEIGHTS.tobytes(), raw=True)],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    if change is not None:
        change(model)
    data: bytes = model.SerializeToString()
    return data


def safetensors(**tensors: Any) -> bytes:
    """A file with these tensors, or one of ours."""
    data: bytes = save(tensors or {"w": WEIGHTS})
    return data


def safetensors_header(header: bytes, data: bytes = b"") -> bytes:
    """A file with this header, true or not."""
    return struct.pack("<Q", len(header)) + header + data


def tflite(shape: tuple[int, ...] = (2, 3), data: bytes = WEIGHTS.tobytes(), version: int = 3) -> bytes:
    """One graph with one constant, which is its input and its output, and one custom operator."""
    b = flatbuffers.Builder(256)
    name, custom, content = b.CreateString("w"), b.CreateString("Ours"), b.CreateByteVector(data)
    buffers = _vector(b, [_table(b, {}), _table(b, {0: content})])
    dims, ends = _int_vector(b, shape), _int_vector(b, (0,))
    tensor = _table(b, {0: dims, 3: name}, {2: 1})
    tensors = _vector(b, [tensor])
    graphs = _vector(b, [_table(b, {0: tensors, 1: ends, 2: ends})])
    codes = _vector(b, [_table(b, {1: custom}, {3: 32})])
    b.Finish(_table(b, {1: codes, 2: graphs, 4: buffers}, {0: version}), file_identifier=b"TFL3")
    return bytes(b.Output())


def zipped(**files: bytes) -> bytes:
    """A zip archive."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return target.getvalue()


class Harm:
    """Unpickling it makes a directory."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.mkdir, (self.path,)


def pickled(path: str = "/nowhere", protocol: int = 4) -> bytes:
    """A pickle that does harm when it is loaded."""
    return pickle.dumps(Harm(path), protocol)


def external(location: str) -> Callable[[ModelProto], None]:
    """The weights come from another file."""

    def change(model: ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return change


def floods(model: ModelProto) -> None:
    """Sixteen gigabytes that a few bytes ask for."""
    model.graph.initializer.append(helper.make_tensor("many", TensorProto.INT64, [1], [1 << 32]))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["many"], ["flood"]))


def _table(b: Any, offsets: dict[int, int], numbers: dict[int, int] | None = None) -> int:
    b.StartObject(8)
    for slot, offset in offsets.items():
        b.PrependUOffsetTRelativeSlot(slot, offset, 0)
    for slot, number in (numbers or {}).items():
        b.PrependUint32Slot(slot, number, 0)
    return int(b.EndObject())


def _vector(b: Any, offsets: list[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())


def _int_vector(b: Any, numbers: tuple[int, ...]) -> int:
    b.StartVector(4, len(numbers), 4)
    for number in reversed(numbers):
        b.PrependInt32(number)
    return int(b.EndVector())
