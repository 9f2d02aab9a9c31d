"""What can be said of an ONNX file without running it: does it take tensors from other files?

A model must be one file, for that is what was signed. This walks the protobuf encoding of ModelProto far enough to
find every TensorProto, wherever it hides, and knows no ONNX library. Field numbers are those of onnx.proto (ONNX 1.21).
"""

from collections.abc import Iterator
from typing import Final

from wire.errors import MalformedError

MAX_DEPTH: Final = 100
"""Nesting of messages, as protobuf itself allows it."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED: Final = {_FIXED64: 8, _FIXED32: 4}
_TENSOR: Final = "tensor"
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_CHILDREN: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: _TENSOR, 15: "sparse"},
    "sparse": {1: _TENSOR, 2: _TENSOR},
    "node": {5: "attribute"},
    "attribute": {5: _TENSOR, 6: "graph", 10: _TENSOR, 11: "graph", 22: "sparse", 23: "sparse"},
    _TENSOR: {},
}
"""Message -> its fields that can lead to a tensor, and what they are."""


def takes_other_files(model: bytes) -> bool:
    """Does a tensor of the model have its data, or a part of it, in another file?

    Raises:
        MalformedError: it is not a protobuf message, or nested deeper than MAX_DEPTH.
    """
    view = memoryview(model)
    waiting = [("model", 0, len(view), 0)]
    while waiting:
        kind, start, end, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise MalformedError(f"ONNX file: nested deeper than {MAX_DEPTH} messages")
        for number, at, after in _fields(view, start, end):
            if kind == _TENSOR and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and at != after)):
                return True
            child = _CHILDREN[kind].get(number)
            if child is not None:
                waiting.append((child, at, after, depth + 1))
    return False


def _fields(view: memoryview, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of the content of each field. A varint of 0 has no content."""
    while at < end:
        tag, at = _varint(view, at, end)
        wire_type = tag & 7
        if wire_type == _VARINT:
            value, after = _varint(view, at, end)
            yield tag >> 3, at, after if value else at
        elif wire_type == _BYTES:
            length, at = _varint(view, at, end)
            after = at + length
            yield tag >> 3, at, min(after, end)
        elif wire_type in _FIXED:
            after = at + _FIXED[wire_type]
        else:
            raise MalformedError(f"ONNX file: byte {at} begins no field of a protobuf message")
        if after > end:
            raise MalformedError(f"ONNX file: the field at byte {at} goes beyond its message")
        at = after


def _varint(view: memoryview, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise MalformedError(f"ONNX file: no whole number ends at byte {at}")
