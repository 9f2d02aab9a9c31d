"""TFLite: a FlatBuffer whose tables, tensors and buffers lie within the file. Field numbers are of its schema, v3.

Offsets are followed by the flatbuffers library; each one that leaves the file ends the reading.
"""

import struct
from typing import Any, Final

from flatbuffers import encode, number_types
from flatbuffers.table import Table

from cloud.inspection.refusal import RefusedError, check_count, check_size, elements, shown

IDENTIFIER: Final = b"TFL3"
_VERSION: Final = 3
_MODEL_VERSION, _MODEL_OPERATORS, _MODEL_GRAPHS, _MODEL_BUFFERS = 0, 1, 2, 4
_CODE_OLD, _CODE_CUSTOM, _CODE_BUILTIN = 0, 1, 3
_GRAPH_TENSORS, _GRAPH_INPUTS, _GRAPH_OUTPUTS = 0, 1, 2
_TENSOR_SHAPE, _TENSOR_TYPE, _TENSOR_BUFFER, _TENSOR_NAME = 0, 1, 2, 3
_BUFFER_DATA, _BUFFER_OFFSET, _BUFFER_SIZE = 0, 1, 2
_CUSTOM: Final = 32
_TYPES: Final = {
    0: ("float32", 32), 1: ("float16", 16), 2: ("int32", 32), 3: ("uint8", 8), 4: ("int64", 64), 5: ("string", 0),
    6: ("bool", 8), 7: ("int16", 16), 8: ("complex64", 64), 9: ("int8", 8), 10: ("float64", 64),
    11: ("complex128", 128), 12: ("uint64", 64), 13: ("resource", 0), 14: ("variant", 0), 15: ("uint32", 32),
    16: ("uint16", 16), 17: ("int4", 4), 18: ("bfloat16", 16),
}  # fmt: skip
"""Type number -> name and bits of one element; 0 bits = the length is the buffer's own matter."""


def is_tflite(data: bytes) -> bool:
    """Does `data` carry the file identifier of TFLite?"""
    return data[4:8] == IDENTIFIER


def describe(data: bytes) -> dict[str, Any]:
    """Operators (built-in ones by number), inputs and outputs. Raises RefusedError."""
    try:
        return _described(data)
    except (struct.error, IndexError, UnicodeDecodeError, TypeError, ValueError) as error:
        raise RefusedError(f"it is no valid TFLite file: an offset leads out of it ({shown(error)})") from error


def _described(data: bytes) -> dict[str, Any]:
    model = Table(data, encode.Get(number_types.UOffsetTFlags.packer_type, data, 0))
    version = _number(model, _MODEL_VERSION, number_types.Uint32Flags)
    if version != _VERSION:
        raise RefusedError(f"it is TFLite of schema version {version}; {_VERSION} is the one in use")
    graphs = _tables(model, _MODEL_GRAPHS)
    if not graphs:
        raise RefusedError("it is a TFLite file without a graph")
    sizes = [_buffer_bytes(buffer, len(data)) for buffer in _tables(model, _MODEL_BUFFERS)]
    tensors = [[_tensor(one, sizes) for one in _tables(graph, _GRAPH_TENSORS)] for graph in graphs]
    return {
        "operators": sorted({_operator(code) for code in _tables(model, _MODEL_OPERATORS)}),
        "inputs": [tensors[0][index] for index in _numbers(graphs[0], _GRAPH_INPUTS)],
        "outputs": [tensors[0][index] for index in _numbers(graphs[0], _GRAPH_OUTPUTS)],
    }


def _tensor(table: Table, sizes: list[int]) -> dict[str, Any]:
    name, shape = _text(table, _TENSOR_NAME), _numbers(table, _TENSOR_SHAPE)
    kind = _number(table, _TENSOR_TYPE, number_types.Int8Flags)
    if kind not in _TYPES:
        raise RefusedError(f"tensor {shown(name)} has the unknown type {kind}")
    dtype, bits = _TYPES[kind]
    buffer = _number(table, _TENSOR_BUFFER, number_types.Uint32Flags)
    if buffer >= len(sizes):
        raise RefusedError(f"tensor {shown(name)} has its data in buffer {buffer}, which does not exist")
    check_size(name, shape, bits)
    wanted = -(-elements(name, shape) * bits // 8)
    if bits and sizes[buffer] and sizes[buffer] != wanted:
        raise RefusedError(f"tensor {shown(name)} of shape {shape[:8]} needs {wanted} bytes and has {sizes[buffer]}")
    return {"name": name, "shape": shape, "dtype": dtype}


def _buffer_bytes(table: Table, length: int) -> int:
    """Large models keep their buffers behind the FlatBuffer, in the same file."""
    offset = _number(table, _BUFFER_OFFSET, number_types.Uint64Flags)
    size = _number(table, _BUFFER_SIZE, number_types.Uint64Flags)
    if offset > 1:
        if offset + size > length:
            raise RefusedError(f"a buffer lies at {offset} to {offset + size}; the file has {length} bytes")
        return size
    field = _field(table, _BUFFER_DATA)
    if not field:
        return 0
    held = int(table.VectorLen(field))
    if table.Vector(field) + held > length:
        raise RefusedError(f"a buffer of {held} bytes goes beyond the file of {length}")
    return held


def _operator(code: Table) -> str:
    number = max(
        _number(code, _CODE_OLD, number_types.Int8Flags), _number(code, _CODE_BUILTIN, number_types.Int32Flags)
    )
    return f"custom::{_text(code, _CODE_CUSTOM)}" if number == _CUSTOM else f"builtin::{number}"


def _field(table: Table, number: int) -> int:
    return int(table.Offset(4 + 2 * number))


def _number(table: Table, number: int, flags: Any) -> int:
    field = _field(table, number)
    return int(table.Get(flags, table.Pos + field)) if field else 0


def _text(table: Table, number: int) -> str:
    field = _field(table, number)
    return bytes(table.String(table.Pos + field)).decode() if field else ""


def _numbers(table: Table, number: int) -> list[int]:
    field = _field(table, number)
    count = int(table.VectorLen(field)) if field else 0
    check_count("numbers in a list", count)
    return [int(table.Get(number_types.Int32Flags, table.Vector(field) + 4 * index)) for index in range(count)]


def _tables(table: Table, number: int) -> list[Table]:
    field = _field(table, number)
    count = int(table.VectorLen(field)) if field else 0
    check_count("tables in a list", count)
    return [Table(table.Bytes, table.Indirect(table.Vector(field) + 4 * index)) for index in range(count)]
